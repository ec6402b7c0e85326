package respport

// glob tells whether a name matches a pattern as in Redis (stringmatchlen in
// util.c): *, ?, [set], [^set], [a-z], and \ to take the next character as it is.
// It goes back to the last * only, so that no pattern takes longer than
// len(pattern) times len(name).
func glob(pattern, name string) bool {
	starred, behindStar, unmatched := false, "", ""
	for {
		if pattern != "" && pattern[0] == '*' {
			pattern = pattern[1:]
			starred, behindStar, unmatched = true, pattern, name
			continue
		}
		if name == "" {
			return pattern == ""
		}
		if rest, ok := matchOne(pattern, name[0]); ok {
			pattern, name = rest, name[1:]
			continue
		}
		if !starred || unmatched == "" {
			return false
		}
		unmatched = unmatched[1:]
		pattern, name = behindStar, unmatched
	}
}

// matchOne matches one character with the first element of a pattern; rest is
// the pattern behind that element.
func matchOne(pattern string, c byte) (rest string, ok bool) {
	switch {
	case pattern == "":
		return "", false
	case pattern[0] == '?':
		return pattern[1:], true
	case pattern[0] == '[':
		return matchSet(pattern[1:], c)
	case pattern[0] == '\\' && len(pattern) > 1:
		pattern = pattern[1:]
	}
	return pattern[1:], pattern[0] == c
}

// matchSet matches one character with a set, of which [ is cut off. A set that is
// not closed ends with the pattern.
func matchSet(set string, c byte) (rest string, ok bool) {
	not := set != "" && set[0] == '^'
	if not {
		set = set[1:]
	}
	for set != "" && set[0] != ']' {
		low, high, size := set[0], set[0], 1
		switch {
		case low == '\\' && len(set) > 1:
			low, high, size = set[1], set[1], 2
		case len(set) > 2 && set[1] == '-':
			low, high, size = min(low, set[2]), max(low, set[2]), 3
		}
		ok = ok || low <= c && c <= high
		set = set[size:]
	}
	return set[min(1, len(set)):], ok != not
}
