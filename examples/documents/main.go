// Command documents is one of several processes that serve the example API.
package main

func main() {}
