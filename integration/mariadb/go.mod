module github.com/insigner/auth/integration/mariadb

go 1.26.0

require (
	github.com/go-sql-driver/mysql v1.10.1
	github.com/insigner/auth v0.1.0
)

require (
	filippo.io/edwards25519 v1.2.0 // indirect
	golang.org/x/crypto v0.58.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
)
