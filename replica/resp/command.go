package resp

import "strconv"

// AppendCommand appends args to dst as one command, a RESP array of bulk
// strings, and returns the extended slice. Every master takes this form, also
// those of the years when replicas still sent inline commands. The arguments
// may hold any bytes. Without arguments nothing is appended: an empty array is
// no command.
func AppendCommand(dst []byte, args ...string) []byte {
	if len(args) == 0 {
		return dst
	}
	dst = appendLength(dst, '*', len(args))
	for _, a := range args {
		dst = appendLength(dst, '$', len(a))
		dst = append(dst, a...)
		dst = append(dst, '\r', '\n')
	}
	return dst
}

func appendLength(dst []byte, kind byte, n int) []byte {
	dst = append(dst, kind)
	dst = strconv.AppendInt(dst, int64(n), 10)
	return append(dst, '\r', '\n')
}
