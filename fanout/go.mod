module github.com/insigner/auth/fanout

go 1.26.0
