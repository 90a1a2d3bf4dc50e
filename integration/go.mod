module github.com/insigner/auth/integration

go 1.26
