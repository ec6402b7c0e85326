package probe

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"replicad/replica"
)

// Limits of one answer. INFO of a large server has some 10 KiB; with a line for
// each of thousands of replicas it may have more.
const (
	maxReply = 4 << 20
	maxLine  = 64 << 10
	maxItems = 1024
	maxDepth = 4
)

// reply is an answer, as RESP2 has them.
type reply struct {
	kind  byte    // '+', '-', ':', '$' or '*'
	text  string  // of all but '*'; "" for a null
	items []reply // of '*'
}

// strange is an answer that no master gives. It wraps replica.ErrUnexpected.
type strange struct{ what string }

func (e *strange) Error() string { return e.what }
func (e *strange) Unwrap() error { return replica.ErrUnexpected }

// replyReader reads answers. It holds no more than was really sent, whatever
// lengths a server announces.
type replyReader struct {
	in   *bufio.Reader
	left int // bytes that the current answer may still have
}

func newReplyReader(r io.Reader) *replyReader {
	return &replyReader{in: bufio.NewReaderSize(r, maxLine+2)}
}

// read reads one answer. Its error is the reader's, or wraps
// replica.ErrUnexpected.
func (r *replyReader) read() (reply, error) {
	r.left = maxReply
	return r.value(0)
}

// readLine reads a line that is not empty, passing over the newlines by which a
// master keeps a connection alive after PSYNC.
func (r *replyReader) readLine() (string, error) {
	for {
		line, err := r.in.ReadSlice('\n')
		if err != nil {
			return "", r.broken(line, err)
		}
		if s := strings.TrimRight(string(line), "\r\n"); s != "" {
			return s, nil
		}
	}
}

// broken explains a line that did not end. What has come of it tells more than
// the time-out that followed.
func (r *replyReader) broken(line []byte, err error) error {
	if errors.Is(err, bufio.ErrBufferFull) {
		return &strange{fmt.Sprintf("a line longer than %d bytes: %s", maxLine, quote(line))}
	}
	if len(line) > 0 && !strings.ContainsRune("+-:$*", rune(line[0])) {
		return &strange{quote(line)}
	}
	return err
}

func (r *replyReader) value(depth int) (reply, error) {
	// A TLS server answers with an alert, which has no newline.
	if first, err := r.in.Peek(1); err == nil && first[0] == 0x15 {
		p, _ := r.in.Peek(min(r.in.Buffered(), 7))
		return reply{}, &strange{quote(p)}
	}
	raw, err := r.in.ReadSlice('\n')
	if err != nil {
		return reply{}, r.broken(raw, err)
	}
	if r.left -= len(raw); r.left < 0 {
		return reply{}, tooLong()
	}
	line := strings.TrimRight(string(raw), "\r\n")
	if line == "" {
		return reply{}, &strange{`""`}
	}
	switch v := (reply{kind: line[0], text: line[1:]}); v.kind {
	case '+', '-', ':':
		return v, nil
	case '$':
		return r.bulk(line)
	case '*':
		return r.array(line, depth)
	}
	return reply{}, &strange{quote([]byte(line))}
}

func tooLong() error { return &strange{fmt.Sprintf("an answer of more than %d bytes", maxReply)} }

// length reads the number of a header; -1 is a null.
func length(line string, most int) (int, error) {
	n, err := strconv.Atoi(line[1:])
	if err != nil || n < -1 || n > most {
		return 0, &strange{quote([]byte(line))}
	}
	return n, nil
}

func (r *replyReader) bulk(line string) (reply, error) {
	n, err := length(line, r.left)
	if err != nil || n < 0 {
		return reply{kind: '$'}, err
	}
	var b strings.Builder
	if _, err := io.CopyN(&b, r.in, int64(n)+2); err != nil {
		return reply{}, err
	}
	r.left -= n
	s, ok := strings.CutSuffix(b.String(), "\r\n")
	if !ok {
		return reply{}, &strange{"a string that is longer than its length says"}
	}
	return reply{kind: '$', text: s}, nil
}

func (r *replyReader) array(line string, depth int) (reply, error) {
	v := reply{kind: '*'}
	n, err := length(line, maxItems)
	if err == nil && depth == maxDepth {
		err = &strange{"lists in lists in lists"}
	}
	for ; err == nil && n > 0; n-- {
		var item reply
		if item, err = r.value(depth + 1); err == nil {
			v.items = append(v.items, item)
		}
	}
	return v, err
}

// quote shows what a server said, cut short.
func quote(p []byte) string {
	const most = 160
	if len(p) > most {
		return fmt.Sprintf("%q...", p[:most])
	}
	return fmt.Sprintf("%q", p)
}
