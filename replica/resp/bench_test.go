package resp

import (
	"fmt"
	"strings"
	"testing"
)

// BenchmarkScanner scans streams that are repeated without end, in the chunks in
// which a link reads.
func BenchmarkScanner(b *testing.B) {
	repeat := func(size int, command func(i int) []string) []byte {
		var p []byte
		for i := 0; len(p) < size; i++ {
			p = AppendCommand(p, command(i)...)
		}
		return p
	}
	value := strings.Repeat("v", 1<<20)
	streams := []struct {
		name string
		data []byte
	}{
		{"SET100", repeat(4<<20, func(i int) []string {
			return []string{"SET", fmt.Sprintf("key:%012d", i), value[:100]}
		})},
		// Lengths as a real data set has them: no branch predictor
		// knows the number of digits in advance.
		{"SETmixed", repeat(4<<20, func(i int) []string {
			r := uint32(i)*2654435761 ^ uint32(i)*40503>>3
			return []string{"SET", fmt.Sprintf("k:%d", r>>(r&15)), value[:r>>7%1500]}
		})},
		{"INCR", repeat(1<<20, func(int) []string { return []string{"INCR", "k"} })},
		{"SELECT", repeat(1<<20, func(i int) []string { return []string{"SELECT", fmt.Sprint(i % 16)} })},
		{"MULTI", repeat(1<<20, func(i int) []string {
			return [][]string{{"MULTI"}, {"INCR", "k"}, {"LPUSH", "list", "element"}, {"EXEC"}}[i%4]
		})},
		{"HSET40", repeat(1<<20, func(i int) []string {
			args := []string{"HSET", "hash"}
			for j := range 19 {
				args = append(args, fmt.Sprintf("field%d", j), value[:(i+j)%30])
			}
			return args
		})},
		{"SET1MiB", repeat(16<<20, func(int) []string { return []string{"SET", "key", value} })},
	}
	for _, stream := range streams {
		for _, size := range []int{16 << 10, 256 << 10} {
			b.Run(fmt.Sprintf("%s/%dKiB", stream.name, size>>10), func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(int64(len(stream.data)))
				s := NewScanner(0, Limits{})
				for b.Loop() {
					for p := stream.data; len(p) > 0; {
						n, _, err := s.Scan(p[:min(size, len(p))])
						if err != nil {
							b.Fatal(err)
						}
						p = p[n:]
					}
				}
			})
		}
	}
}

func BenchmarkAppendCommand(b *testing.B) {
	b.ReportAllocs()
	var p []byte
	for b.Loop() {
		p = AppendCommand(p[:0], "REPLCONF", "ACK", "1234567890123")
	}
}

func BenchmarkLineReader(b *testing.B) {
	p := []byte(strings.Repeat("+FULLRESYNC a557dd41e9a1de41d4e7ab1da457f74eccc81e31 0\r\n\n+OK\r\n", 1000))
	b.ReportAllocs()
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		var r LineReader
		for rest := p; len(rest) > 0; {
			_, n, _ := r.Read(rest)
			rest = rest[n:]
		}
	}
}
