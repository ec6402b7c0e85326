package minimaster

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// ErrTorn marks an end inside a command or inside a MULTI: the rest has not arrived. Everything before has been replayed.
var ErrTorn = errors.New("minimaster: the stream ends inside a command or transaction")

// A TornError says where the torn end begins.
type TornError struct {
	Offset int64 // bytes up to the end of the last complete command outside of MULTI
	Size   int64 // bytes behind it
}

// Error tells both numbers.
func (e *TornError) Error() string {
	return fmt.Sprintf("%s: %d bytes after byte %d", ErrTorn.Error(), e.Size, e.Offset)
}

// Unwrap makes errors.Is(err, ErrTorn) true.
func (e *TornError) Unwrap() error { return ErrTorn }

// ReplayAOF executes a replication stream, or an append only file, from database 0 on. An RDB preamble is loaded first.
// It returns how many commands it has executed, those of transactions among them; MULTI, EXEC, SELECT, PING, PUBLISH
// and REPLCONF are not counted. An end that is torn gives a *TornError, after everything before it has been executed. A
// command that fails is an error that says which one: on the master it had an effect.
func (e *Engine) ReplayAOF(r io.Reader) (commands int64, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.replaying = true
	defer func() { e.replaying = false }()

	in := &aofReader{r: bufio.NewReader(r)}
	if b, _ := in.r.Peek(5); string(b) == "REDIS" {
		if in.at, err = e.loadRDB(in.r); err != nil {
			return 0, err
		}
	}
	var (
		db    int
		safe  = in.at // end of the last command outside of MULTI
		multi bool
		queue [][]string
	)
	for {
		start := in.at
		args, err := in.command()
		switch {
		case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
			if in.at == safe {
				return commands, nil
			}
			return commands, &TornError{Offset: safe, Size: in.at - safe}
		case err != nil:
			return commands, fmt.Errorf("minimaster: replaying, command at byte %d: %w", start, err)
		}
		switch name := strings.ToUpper(args[0]); {
		case name == "MULTI":
			multi, queue = true, nil
			continue
		case name == "EXEC" && multi:
			multi = false
		case multi:
			queue = append(queue, args)
			continue
		default:
			queue = [][]string{args}
		}
		for _, args := range queue {
			done, err := e.replay(&db, args)
			if err != nil {
				return commands, fmt.Errorf("minimaster: replaying, command that ends at byte %d, %.60q: %w", in.at, args, err)
			}
			if done {
				commands++
			}
		}
		queue = nil
		safe = in.at
	}
}

// replay executes one command of a stream and says whether it was one that counts.
func (e *Engine) replay(db *int, args []string) (bool, error) {
	switch strings.ToUpper(args[0]) {
	case "PING", "REPLCONF", "PUBLISH", "SPUBLISH":
		return false, nil
	case "SELECT":
		if len(args) == 2 {
			if n, ok := database(args[1]); ok {
				*db = n
				return false, nil
			}
		}
		return false, Error(msgDBRange)
	}
	e.now = time.Now().UnixMilli()
	reply, _ := e.exec(*db, args)
	if isError(reply) {
		_, err := parseReply(reply)
		return false, err
	}
	return true, nil
}

// aofReader reads commands and counts bytes.
type aofReader struct {
	r  *bufio.Reader
	at int64
}

// command reads one command. io.EOF or io.ErrUnexpectedEOF: it is not all there.
func (in *aofReader) command() ([]string, error) {
	n, err := in.header('*', 1<<20)
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, errors.New("a command without a name")
	}
	args := make([]string, 0, min(n, 64))
	for range n {
		size, err := in.header('$', maxString)
		if err != nil {
			return nil, err
		}
		var b strings.Builder
		copied, err := io.CopyN(&b, in.r, size+2)
		in.at += copied
		if err != nil {
			return nil, err
		}
		s, ok := strings.CutSuffix(b.String(), "\r\n")
		if !ok {
			return nil, errors.New("an argument that does not end with CR LF")
		}
		args = append(args, s)
	}
	return args, nil
}

// header reads a line that is a kind and a number.
func (in *aofReader) header(kind byte, most int64) (int64, error) {
	var line []byte
	for len(line) < 24 {
		c, err := in.r.ReadByte()
		if err != nil {
			return 0, err
		}
		in.at++
		line = append(line, c)
		if c == '\n' {
			s, ok := strings.CutSuffix(string(line[1:]), "\r\n")
			n, isInt := parseInt(s)
			if line[0] != kind || !ok || !isInt || n < 0 || n > most {
				break
			}
			return n, nil
		}
	}
	return 0, fmt.Errorf("%q where %c and a number belong", line, kind)
}
