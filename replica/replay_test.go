package replica_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
)

// soak says whether there is time for everything: REPLICAD_SOAK=1.
func soak() bool { return os.Getenv("REPLICAD_SOAK") != "" }

// variants are the ways in which a store can take things.
var variants = []struct {
	name string
	opt  storeOptions
}{
	{"splice", storeOptions{splice: true}},
	{"copy", storeOptions{}},
	{"small-buffer", storeOptions{buffer: 5}},
	{"splice-byte-buffer", storeOptions{buffer: 1, splice: true}},
}

func allConversations(t testing.TB) []conversation {
	return append(loadConversations(t, "recorded"), loadConversations(t, "conversations")...)
}

func TestEveryConversationEndsAsItSaysWithEachReplyInOnePiece(t *testing.T) {
	for _, c := range allConversations(t) {
		for _, v := range variants[:2] {
			t.Run(c.name+"/"+v.name, func(t *testing.T) {
				t.Parallel()
				play(t, c, v.opt, whole, false)
			})
		}
	}
}

func TestEveryConversationEndsAsItSaysWithEveryByteItsOwnWrite(t *testing.T) {
	for i, c := range allConversations(t) {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			play(t, c, variants[i%len(variants)].opt, bytewise, false)
		})
	}
}

func TestEveryConversationEndsAsItSaysWhereverItIsCutInTwo(t *testing.T) {
	stride := 11
	if soak() {
		stride = 1
	}
	first := rand.IntN(stride)
	all := allConversations(t)
	runs := 0
	for _, c := range all {
		if c.slow && !soak() {
			continue
		}
		n := c.bytes()
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for i := 1 + first; i < n; i += stride {
				play(t, c, variants[i%len(variants)].opt, cutAt(i), true)
				if t.Failed() {
					t.Fatalf("cut before byte %d", i)
				}
			}
		})
		runs += (n - 2 - first + stride) / stride
	}
	t.Logf("%d conversations, %d runs: cut at every %d. byte, from byte %d on", len(all), runs, stride, 1+first)
}

func TestEveryConversationEndsAsItSaysCutAtRandomPlaces(t *testing.T) {
	seeds := 2
	if soak() {
		seeds = 100
	}
	all := allConversations(t)
	for _, c := range all {
		n := seeds
		if c.slow {
			n = (n + 9) / 10
		}
		for range n {
			seed := rand.Uint64()
			t.Run(fmt.Sprintf("%s/%d", c.name, seed), func(t *testing.T) {
				t.Parallel()
				rng := rand.New(rand.NewPCG(seed, 0))
				v := variants[rng.IntN(len(variants))]
				play(t, c, v.opt, random(rng), rng.IntN(2) == 0)
				if t.Failed() {
					t.Logf("seed %d, store %s", seed, v.name)
				}
			})
		}
	}
	t.Logf("%d conversations, %d seeds each", len(all), seeds)
}

// bytes is how many the master says in the conversation.
func (c conversation) bytes() int {
	n := 0
	for _, s := range c.steps {
		n += len(s.data)
	}
	return n
}
