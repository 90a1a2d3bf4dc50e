package keyapi

// Routes returns the method and the pattern of each route.
func Routes() (list [][2]string) {
	for _, rt := range routes {
		list = append(list, [2]string{rt.method, rt.pattern})
	}
	return list
}
