package cache

var ErrUnsettled = errUnsettled
