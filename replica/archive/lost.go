package archive

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// Lost is what a failover has lost of a history: what a generation holds behind
// the fork, as far as the new master did not send the same again. A replica that
// lagged when it was promoted names the offset where it stood, and then often
// sends what the generation before has already.
type Lost struct {
	Generation int   `json:"generation"` // that holds it
	ForkOffset int64 `json:"fork_offset"`
	// Pending: what came since the fork is the same so far, and less. The other
	// fields then tell of what may yet be lost.
	Pending bool  `json:"pending"`
	From    int64 `json:"from_offset"` // the last byte before it; it begins on a boundary
	To      int64 `json:"to_offset"`   // its last byte
	Bytes   int64 `json:"bytes"`
	Writes  int64 `json:"writes"`
	// Most often nothing but these is lost: the former master sends them until
	// it is demoted.
	Pings     int64 `json:"pings"`
	Hellos    int64 `json:"hellos"`    // of Sentinels: PUBLISH __sentinel__:hello
	Publishes int64 `json:"publishes"` // other PUBLISH and SPUBLISH
	// Since and Until are when the first and the last of it had come; zero where
	// nothing is lost.
	Since time.Time `json:"since,omitzero"`
	Until time.Time `json:"until,omitzero"`
}

// String counts the commands.
func (l Lost) String() string {
	return fmt.Sprintf("%d writes, %d pings, %d hellos of Sentinels, %d PUBLISH", l.Writes, l.Pings, l.Hellos, l.Publishes)
}

// lost says what was lost at a fork: now is the generation that goes on from it,
// and was the one that holds what lies behind.
func lost(now, was *Reader, at Fork) (l Lost, err error) {
	l = Lost{Generation: was.Number, ForkOffset: at.Offset, From: at.Offset, To: was.End()}
	same, err := sameBytes(was.behind(at.Offset), now.behind(at.Offset))
	if err != nil {
		return l, err
	}
	l.Pending = at.Offset+same == now.End() && now.End() < l.To
	if l.From, _, err = was.boundary(min(at.Offset+same, l.To)); err != nil {
		return l, err
	}
	if at.Offset+same == l.To { // all came again
		l.From = l.To
	}
	if l.Bytes = l.To - l.From; l.Bytes == 0 {
		return l, nil
	}
	if err := l.count(was); err != nil {
		return l, err
	}
	if l.Since, err = was.When(l.From + 1); err == nil {
		l.Until, err = was.When(l.To)
	}
	return l, err
}

// count counts the commands that are lost.
func (l *Lost) count(was *Reader) error {
	for _, s := range was.Segments {
		if s.To <= l.From || s.To == s.From {
			continue
		}
		if err := l.countIn(was, s); err != nil {
			return err
		}
	}
	return nil
}

func (l *Lost) countIn(was *Reader, s Segment) error {
	f, err := os.Open(was.SegmentPath(s))
	if err != nil {
		return err
	}
	defer f.Close()
	w := s.Walk(f)
	var name string
	w.Watch(func(n []byte, _ uint64) bool {
		name = strings.ToUpper(string(n))
		return true
	}, func(from, to int64) error {
		if from < l.From {
			return nil
		}
		switch name {
		case "PING":
			l.Pings++
		case "PUBLISH", "SPUBLISH":
			p := make([]byte, min(to-from, 128)) // the channel's name is near the front
			if _, err := f.ReadAt(p, s.Position(from)); err != nil {
				return err
			}
			if bytes.Contains(p, []byte("\r\n__sentinel__:hello\r\n")) {
				l.Hellos++
			} else {
				l.Publishes++
			}
		default:
			l.Writes++
		}
		return nil
	})
	return w.To(context.Background(), s.To)
}

// sameBytes says how many bytes of two streams are the same.
func sameBytes(a, b io.ReadCloser) (n int64, err error) {
	defer a.Close()
	defer b.Close()
	p, q := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		k, err := io.ReadFull(a, p)
		if err != nil && err != io.ErrUnexpectedEOF && err != io.EOF {
			return n, err
		}
		m, err2 := io.ReadFull(b, q[:k])
		if err2 != nil && err2 != io.ErrUnexpectedEOF && err2 != io.EOF {
			return n, err2
		}
		for i := range m {
			if p[i] != q[i] {
				return n + int64(i), nil
			}
		}
		if n += int64(m); m < k || err != nil {
			return n, nil
		}
	}
}

// behind reads the stream behind an offset, up to where the reader's generation
// ends.
func (r *Reader) behind(offset int64) io.ReadCloser { return &streamReader{r: r, at: offset} }

// streamReader reads a generation's stream across its segments.
type streamReader struct {
	r  *Reader
	at int64
	f  *os.File // of the segment seg; nil before the first
	is Segment
}

// Read implements io.Reader.
func (s *streamReader) Read(p []byte) (int, error) {
	if s.f == nil || s.at >= s.is.To {
		if err := s.next(); err != nil {
			return 0, err
		}
	}
	n, err := s.f.ReadAt(p[:min(int64(len(p)), s.is.To-s.at)], s.is.Position(s.at))
	s.at += int64(n)
	if n > 0 {
		err = nil
	}
	return n, err
}

// next opens the segment that has the next byte.
func (s *streamReader) next() (err error) {
	s.Close()
	for _, seg := range s.r.Segments {
		if seg.From <= s.at && s.at < seg.To {
			s.is = seg
			s.f, err = os.Open(s.r.SegmentPath(seg))
			return err
		}
	}
	return io.EOF
}

// Close implements io.Closer.
func (s *streamReader) Close() error {
	if s.f == nil {
		return nil
	}
	f := s.f
	s.f = nil
	return f.Close()
}
