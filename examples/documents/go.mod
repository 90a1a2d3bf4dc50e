module github.com/insigner/auth/examples/documents

go 1.26.0
