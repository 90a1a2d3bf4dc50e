module github.com/insigner/auth/examples/sqlite

go 1.26
