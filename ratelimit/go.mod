module github.com/insigner/auth/ratelimit

go 1.26.0
