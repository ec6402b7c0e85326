package archive

import (
	"hash/crc32"
	"os"
	"slices"
	"time"

	"replicad/replica"
)

// Defaults of [Options].
const (
	DefaultSegmentSize        = 256 << 20 // bytes
	DefaultTimelineResolution = 100 * time.Millisecond
)

// mostSealing bounds the segments that are complete and not durable yet, and
// so the files that are open: beyond it the writer waits for the flusher.
const mostSealing = 4

// sealing is a segment that is complete, and not durable yet.
type sealing struct {
	seg  Segment
	file *os.File
}

// full says whether the next byte belongs into the next segment: the file has
// its size, and ends on a boundary. The writer's.
func (g *log) full() bool {
	return g.position(g.at.offset) >= g.size && g.at == g.reached.boundary && g.at.offset > g.seg.From
}

// piece is how many of the bytes up to target go into the segment's file before
// it has to be asked again whether it is full; b is the last boundary among them.
func (g *log) piece(target int64, b replica.Boundary) int64 {
	if b.Offset > g.at.offset && b.Offset < target && g.position(b.Offset) >= g.size {
		target = b.Offset
	}
	return target - g.at.offset
}

// rotate starts the next segment where the writer stands. It does not wait for
// an fsync: making the old one durable is left to the flusher. It returns false
// when it had to give up; what it left of the new one, recovery removes.
func (g *log) rotate() bool {
	if !g.awaitSealing() {
		return false
	}
	done := g.seg
	done.Sealed, done.To, done.CRC = true, g.at.offset, g.at.crc
	header := selectHeader(g.reached.db)
	next := Segment{Seq: done.Seq + 1, From: g.at.offset, DB: g.reached.db, Header: int64(len(header))}
	var f *os.File
	if !g.persist(func() (err error) { f, err = g.create(next.Seq, header); return err }) {
		return false
	}
	if !g.persist(func() error { return g.timeline.add(sealedFact(done), segmentFact(next)) }) {
		f.Close()
		return false
	}
	at := place{next.From, crc32.Checksum(header, castagnoli)}
	g.mu.Lock()
	g.sealing = append(g.sealing, sealing{done, g.file})
	g.file = f
	g.reached = checkpoint{seq: next.Seq, fsynced: at, boundary: at, db: next.DB}
	g.unsynced = true
	g.mu.Unlock()
	g.seg, g.at, g.ahead, g.kicked = next, at, ahead{}, next.Header
	signal(g.seal)
	return true
}

// create makes a segment's file with its header; whole or not at all, unless
// the process dies.
func (g *log) create(seq int, header []byte) (*os.File, error) {
	g.names.Lock()
	defer g.names.Unlock()
	path := g.gen.segment(seq)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return nil, err
	}
	if _, err := g.disk.pwrite(f, header, 0); err != nil {
		f.Close()
		os.Remove(path)
		return nil, err
	}
	return f, nil
}

// awaitSealing waits until another segment may be left to the flusher; false
// when the log failed meanwhile.
func (g *log) awaitSealing() bool {
	for {
		g.mu.Lock()
		n, failed := len(g.sealing), g.failed
		g.mu.Unlock()
		if failed != nil {
			return false
		}
		if n < mostSealing {
			return true
		}
		<-g.wake // sealed and fail signal it
	}
}

// syncSealed makes segments durable that are complete, and gives back what was
// allocated ahead of them.
func (g *log) syncSealed(done []sealing) error {
	for _, s := range done {
		if err := s.file.Truncate(s.seg.Size()); err != nil {
			return err
		}
		if err := g.disk.fdatasync(s.file); err != nil {
			return err
		}
	}
	return nil
}

// syncNames makes the names of the segments' files durable.
func (g *log) syncNames() error {
	g.names.Lock()
	defer g.names.Unlock()
	return g.disk.syncDir(g.gen.aofs())
}

// name has the manifest name the segments up to last.
func (g *log) name(last int) error {
	g.names.Lock()
	defer g.names.Unlock()
	return g.gen.writeManifest(last, g.disk)
}

// sealed lets segments go that are durable now: they may be read again.
func (g *log) sealed(done []sealing) {
	g.mu.Lock()
	g.sealing = slices.Clone(g.sealing[len(done):])
	for _, s := range done {
		g.unread = append(g.unread, s.seg)
	}
	g.mu.Unlock()
	signal(g.wake)
	signal(g.readable)
	number := g.generation().number
	for _, s := range done {
		s.file.Close()
		g.opt.observed(Event{Kind: SegmentSealed, Generation: number, Segment: s.seg.Seq, Offset: s.seg.To, Bytes: s.seg.Size()})
	}
}

// generation is where the log's files are now.
func (g *log) generation() generation {
	g.names.Lock()
	defer g.names.Unlock()
	return g.gen
}

// rename moves the generation's folder while its log is open. The name is
// durable only when the caller has fsynced the folder around it.
func (g *log) rename(to generation) error {
	g.names.Lock()
	defer g.names.Unlock()
	if err := os.Rename(g.gen.dir, to.dir); err != nil {
		return err
	}
	g.gen = to
	return nil
}

// writeManifest has the manifest name the segments up to last, in one step: a
// crash leaves the old one or the new one.
func (g generation) writeManifest(last int, d disk) error {
	path := g.aof(ManifestName)
	f, err := os.OpenFile(path+tmpSuffix, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return err
	}
	if _, err = d.pwrite(f, Manifest(last), 0); err == nil {
		err = d.fdatasync(f)
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	if err := os.Rename(path+tmpSuffix, path); err != nil {
		return err
	}
	return d.syncDir(g.aofs())
}
