module github.com/insigner/auth/examples/metrics

go 1.26.0
