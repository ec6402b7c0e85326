package rdb

import "fmt"

// decompress expands LZF-compressed bytes to exactly size bytes, the most that it
// ever allocates. The format is a sequence of two things:
//
//	000nnnnn                    n+1 literal bytes follow
//	lllddddd [L] DDDDDDDD       copy l+2 bytes (l of 1 to 6; with 7, L is added)
//	                            from d<<8|D bytes, plus one, before the end
//
// A copy may reach into what it writes itself: distance 1 repeats one byte.
func decompress(in []byte, size int) ([]byte, error) {
	out := make([]byte, 0, size)
	for i := 0; i < len(in); {
		c := int(in[i])
		i++
		if c < 32 {
			n := c + 1
			if n > len(in)-i {
				return nil, malformed("LZF: literals cut short")
			}
			if n > size-len(out) {
				return nil, malformed("LZF: more bytes than announced")
			}
			out = append(out, in[i:i+n]...)
			i += n
			continue
		}
		n := c>>5 + 2
		if n == 7+2 {
			if i == len(in) {
				return nil, malformed("LZF: length cut short")
			}
			n += int(in[i])
			i++
		}
		if i == len(in) {
			return nil, malformed("LZF: distance cut short")
		}
		from := len(out) - (c&31<<8 | int(in[i])) - 1
		i++
		if from < 0 {
			return nil, malformed("LZF: distance before the begin")
		}
		if n > size-len(out) {
			return nil, malformed("LZF: more bytes than announced")
		}
		for ; n > 0; n-- {
			out = append(out, out[from])
			from++
		}
	}
	if len(out) != size {
		return nil, malformed(fmt.Sprintf("LZF: %d bytes instead of %d", len(out), size))
	}
	return out, nil
}
