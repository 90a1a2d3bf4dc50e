// Package recipes holds the tested programs of docs/recipes, one package for
// each page.
package recipes
