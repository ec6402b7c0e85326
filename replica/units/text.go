package units

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/agnivade/levenshtein"
)

// Printable makes text that a stranger wrote fit to be shown: of at most most
// characters, valid UTF-8, on one line, and without characters that are
// invisible or turn the direction of the text behind them. It does not escape
// HTML.
func Printable(s string, most int) string {
	var out strings.Builder
	n := 0
	for i, r := range s {
		if n == most {
			out.WriteString(" ...")
			break
		}
		n++
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(s[i:], string(utf8.RuneError)):
			fmt.Fprintf(&out, `\x%02x`, s[i])
		case r == '\n' || r == '\t':
			out.WriteByte(' ')
		case !unicode.IsPrint(r) || unicode.Is(unicode.Cf, r):
			out.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
		default:
			out.WriteRune(r)
		}
	}
	return out.String()
}

// Names lists words, the first most of them, and counts the rest.
func Names(words []string, most int) string {
	if more := len(words) - most; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(words[:most], ","), more)
	}
	return strings.Join(words, ",")
}

// ShellWord quotes a word for a shell where the shell would not take it as it
// is.
func ShellWord(s string) string {
	if regexp.MustCompile(`^[\w/.+:@%,=-]+$`).MatchString(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// Nearest gives the word that is spelled almost as s is; "" where none is. A long
// s may differ in more characters than a short one.
func Nearest(s string, words []string) string {
	s = strings.ToLower(strings.ReplaceAll(s, "_", "-"))
	best, found := max(1, min(len(s)/3, 4))+1, ""
	for _, w := range words {
		if d := levenshtein.ComputeDistance(s, w); d < best {
			best, found = d, w
		}
	}
	return found
}

// DidYouMean asks whether the nearest of words was meant; "" where none is near.
func DidYouMean(s string, words []string) string {
	if w := Nearest(s, words); w != "" {
		return ": did you mean " + w + "?"
	}
	return ""
}
