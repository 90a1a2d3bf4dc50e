module github.com/insigner/auth/sqlstore

go 1.26.0
