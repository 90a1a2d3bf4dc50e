package sqlstore_test
const crashEnv = "X"
func crashInRotation(string) {}
