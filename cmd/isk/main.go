// Command isk manages API keys, for staff and scripts.
package main

func main() {}
