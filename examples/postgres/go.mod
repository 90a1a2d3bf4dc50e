module github.com/insigner/auth/examples/postgres

go 1.26
