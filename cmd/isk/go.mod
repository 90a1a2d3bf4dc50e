module github.com/insigner/auth/cmd/isk

go 1.26.0
