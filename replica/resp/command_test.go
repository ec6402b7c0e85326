package resp

import (
	"bytes"
	"strings"
	"testing"
)

func TestCommandsAreWrittenAsReplicasWriteThem(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"PING"}, "*1\r\n$4\r\nPING\r\n"},
		{[]string{"PSYNC", "?", "-1"}, "*3\r\n$5\r\nPSYNC\r\n$1\r\n?\r\n$2\r\n-1\r\n"},
		{[]string{"REPLCONF", "ACK", "123"}, "*3\r\n$8\r\nREPLCONF\r\n$3\r\nACK\r\n$3\r\n123\r\n"},
		{[]string{"AUTH", "", "a\r\nb\x00"}, "*3\r\n$4\r\nAUTH\r\n$0\r\n\r\n$5\r\na\r\nb\x00\r\n"},
		{[]string{strings.Repeat("x", 12345)}, "*1\r\n$12345\r\n" + strings.Repeat("x", 12345) + "\r\n"},
		{nil, ""},
	} {
		if got := AppendCommand([]byte("before"), c.args...); string(got) != "before"+c.want {
			t.Errorf("AppendCommand(%.40q) = %.80q", c.args, got)
		}
	}
}

func TestWritingIntoABufferThatIsLargeEnoughAllocatesNothing(t *testing.T) {
	dst := make([]byte, 0, 100)
	if n := testing.AllocsPerRun(100, func() { dst = AppendCommand(dst[:0], "REPLCONF", "ACK", "1234567890123") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if !bytes.HasSuffix(dst, []byte("1234567890123\r\n")) {
		t.Errorf("%q", dst)
	}
}
