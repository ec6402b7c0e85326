package tail

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"unicode/utf8"

	"replicad/replica/archive"
)

// Bounds of what is printed of a command.
const (
	mostPrinted     = 4 << 10 // bytes of an argument
	mostPrintedArgs = 1000
)

// Formats are the forms in which lines are printed.
func Formats() []string { return []string{"json", "text"} }

// line is what is printed of a command, or of a break.
type line struct {
	command
	id            string
	before, after archive.Moment
	db            int
	tx            int64 // offset of the MULTI; -1 outside of a transaction
	keys          [][]byte
	touches       Touches
}

// appendJSON appends the line as JSON. What is not UTF-8 is an object with
// base64.
func (l *line) appendJSON(p []byte) []byte {
	p = append(p, `{"id":`...)
	p = appendString(p, []byte(l.id))
	p = append(p, `,"offset":`...)
	p = strconv.AppendInt(p, l.end, 10)
	p = append(p, `,"after":`...)
	p = appendMoment(p, l.before)
	p = append(p, `,"before":`...)
	p = appendMoment(p, l.after)
	p = append(p, `,"db":`...)
	p = strconv.AppendInt(p, int64(l.db), 10)
	if l.tx >= 0 {
		p = append(p, `,"transaction":`...)
		p = strconv.AppendInt(p, l.tx, 10)
	}
	p = append(p, `,"command":`...)
	p = appendString(p, l.args[0])
	p = append(p, `,"keys":`...)
	p, _ = appendStrings(p, l.keys)
	if l.touches != Named {
		p = append(p, `,"touches":"`...)
		p = append(p, l.touches...)
		p = append(p, '"')
	}
	p = append(p, `,"args":`...)
	p, cut := appendStrings(p, l.args[1:])
	if cut || l.cut() {
		p = append(p, `,"cut":true,"arguments":`...)
		p = strconv.AppendInt(p, int64(l.argc-1), 10)
		p = append(p, `,"bytes":`...)
		p = strconv.AppendInt(p, l.end-l.start, 10)
	}
	return append(p, "}\n"...)
}

func appendMoment(p []byte, m archive.Moment) []byte {
	if m.Time.IsZero() {
		return append(p, "null"...)
	}
	p = append(p, `{"time":"`...)
	p = m.Time.UTC().AppendFormat(p, stampForm)
	p = append(p, `","offset":`...)
	return append(strconv.AppendInt(p, m.Offset, 10), '}')
}

const stampForm = "2006-01-02T15:04:05.000Z07:00"

// appendStrings appends an array, and says whether something of it was left
// out.
func appendStrings(p []byte, all [][]byte) (_ []byte, cut bool) {
	p = append(p, '[')
	for i, s := range all {
		if i == mostPrintedArgs {
			cut = true
			break
		}
		if i > 0 {
			p = append(p, ',')
		}
		if len(s) > mostPrinted {
			s, cut = s[:mostPrinted], true
		}
		p = appendString(p, s)
	}
	return append(p, ']'), cut
}

func appendString(p, s []byte) []byte {
	plain := true
	for _, c := range s {
		if c < ' ' || c >= 0x7f || c == '"' || c == '\\' {
			plain = false
			break
		}
	}
	switch {
	case plain:
		p = append(p, '"')
		p = append(p, s...)
		return append(p, '"')
	case utf8.Valid(s):
		text, _ := json.Marshal(string(s)) // a string always can be
		return append(p, text...)
	}
	p = append(p, `{"base64":"`...)
	p = base64.StdEncoding.AppendEncode(p, s)
	return append(p, `"}`...)
}

// appendText appends the line for eyes, with arguments quoted as MONITOR does.
func (l *line) appendText(p []byte) []byte {
	at := l.after.Time
	if at.IsZero() {
		at = l.before.Time
	}
	p = at.Local().AppendFormat(p, "2006-01-02 15:04:05.000")
	p = fmt.Appendf(p, " %d db%d", l.end, l.db)
	if l.tx >= 0 {
		p = fmt.Appendf(p, " tx %d", l.tx)
	}
	cut := l.cut()
	for i, s := range l.args {
		if i > mostPrintedArgs {
			cut = true
			break
		}
		if len(s) > mostPrinted {
			s, cut = s[:mostPrinted], true
		}
		p = append(p, ' ')
		p = appendQuoted(p, s)
	}
	if cut {
		p = fmt.Appendf(p, " ... (cut: %d arguments, %d bytes)", l.argc-1, l.end-l.start)
	}
	if l.touches != Named {
		p = append(append(append(p, "  ("...), l.touches...), ')')
	}
	return append(p, '\n')
}

// appendQuoted is sdscatrepr of Redis' sds.c.
func appendQuoted(p, s []byte) []byte {
	p = append(p, '"')
	for _, c := range s {
		switch {
		case c == '"' || c == '\\':
			p = append(p, '\\', c)
		case c == '\n':
			p = append(p, `\n`...)
		case c == '\r':
			p = append(p, `\r`...)
		case c == '\t':
			p = append(p, `\t`...)
		case c == '\a':
			p = append(p, `\a`...)
		case c == '\b':
			p = append(p, `\b`...)
		case c < ' ' || c >= 0x7f:
			const hex = "0123456789abcdef"
			p = append(p, '\\', 'x', hex[c>>4], hex[c&15])
		default:
			p = append(p, c)
		}
	}
	return append(p, '"')
}

// appendBreak appends a line that tells of a break.
func appendBreak(p []byte, b *archive.Break, text bool) []byte {
	if text {
		return fmt.Appendf(p, "-- %v\n", b)
	}
	type place struct {
		ID     string `json:"id"`
		Offset int64  `json:"offset"`
	}
	is := struct {
		Event string `json:"event"`
		Void  *place `json:"void_from,omitempty"`
		Was   place  `json:"was"`
		At    place  `json:"goes_on"`
	}{Event: "fork", Was: place{b.Was.ReplID, b.Was.Offset}, At: place{b.At.ReplID, b.At.Offset}}
	if b.Gap {
		is.Event = "gap"
	}
	if b.Void < b.Was.Offset {
		is.Void = &place{b.Was.ReplID, b.Void}
	}
	line, _ := json.Marshal(is) // it always can be
	return append(append(p, line...), '\n')
}
