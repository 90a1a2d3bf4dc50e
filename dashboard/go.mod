module github.com/insigner/auth/dashboard

go 1.26.0

require (
	github.com/insigner/auth v0.1.0
	github.com/insigner/auth/apilog v0.1.0
)
