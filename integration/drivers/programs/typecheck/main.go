// Command typecheck reads a program and all packages that it links, for the
// system in GOOS and GOARCH, without cgo. It fails if the program would not
// compile there: if a package has no files for that system, or a name or a type
// is wrong. It takes a few seconds, while a build compiles the standard library
// for each system.
//
// It prints the import paths of the packages.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"log"
	"os"
	"os/exec"
	"path/filepath"
)

// A listed package is one as go list shows it.
type listed struct {
	ImportPath, Dir string
	Standard        bool
	GoFiles         []string
	ImportMap       map[string]string // what the vendored packages of the standard library are called
	Error           *struct{ Err string }
}

func main() {
	log.SetFlags(0)
	packages, err := list(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	checked := map[string]*types.Package{"unsafe": types.Unsafe}
	files := token.NewFileSet()
	for _, p := range packages {
		fmt.Println(p.ImportPath)
		if p.ImportPath == "unsafe" {
			continue
		}
		if checked[p.ImportPath], err = check(p, files, checked); err != nil {
			log.Fatal(err)
		}
	}
}

// list returns the package and those that it links, each after what it imports.
func list(pkg string) (packages []listed, err error) {
	cmd := exec.Command("go", "list", "-e", "-deps", "-json=ImportPath,Dir,Standard,GoFiles,ImportMap,Error", pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	for decoder := json.NewDecoder(out); ; {
		var p listed
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return packages, cmd.Wait()
		} else if err != nil {
			return nil, err
		}
		if p.Error != nil {
			return nil, errors.New(p.Error.Err)
		}
		packages = append(packages, p)
	}
}

// check returns the types of a package. In the standard library it leaves out
// the bodies of functions.
func check(p listed, files *token.FileSet, checked map[string]*types.Package) (*types.Package, error) {
	var parsed []*ast.File
	for _, name := range p.GoFiles {
		f, err := parser.ParseFile(files, filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		parsed = append(parsed, f)
	}
	config := types.Config{
		IgnoreFuncBodies: p.Standard,
		Sizes:            types.SizesFor("gc", os.Getenv("GOARCH")),
		Importer: importer(func(path string) (*types.Package, error) {
			if other := p.ImportMap[path]; other != "" {
				path = other
			}
			if checked[path] == nil {
				return nil, fmt.Errorf("%s is missing", path)
			}
			return checked[path], nil
		}),
	}
	return config.Check(p.ImportPath, files, parsed, nil)
}

type importer func(path string) (*types.Package, error)

func (f importer) Import(path string) (*types.Package, error) { return f(path) }
