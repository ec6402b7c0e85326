package statuspage

import (
	"fmt"
	"strings"
)

// term is a word of the page with its explanation. The page shows the
// explanation under the pointer, and when the keyboard's focus is on the word.
type term struct{ Word, ID, Says string }

// explain makes a word a term.
func explain(word string) (term, error) {
	says, err := explanation(word)
	return term{word, "term-" + strings.ToLower(strings.ReplaceAll(word, " ", "-")), says}, err
}

func explanation(word string) (string, error) {
	says, ok := glossary()[word]
	if !ok {
		return "", fmt.Errorf("%q is not explained", word)
	}
	return says, nil
}

// glossary explains the words of the page.
func glossary() map[string]string {
	return map[string]string{
		// What can be restored.
		"Oldest":    "The earliest moment to which the data can be restored.",
		"Newest":    "The latest moment to which the data can be restored: when the last stored byte came.",
		"full sync": "Here the master sent a whole copy of its data, an RDB file. A generation begins.",
		"rebase":    "Here replicad took a new base beside the running stream, so that older ones may go. Time goes on without a gap.",

		// The table of generations.
		"Generation":    "A base, which is a whole copy of the data, and the log of all writes behind the base. Each moment of a generation can be restored.",
		"State":         "current: it is being written. complete: nothing more will be written to it. transferring: its base is not here yet. damaged: something in it is not what was written.",
		"Restores from": "The first moment to which the generation can be restored.",
		"To":            "The moment when the generation's last byte came.",
		"Offsets":       "The bytes of the master's replication stream that the generation holds, by the number of the first and of the last one.",
		"Size":          "What the files of base and log take on the disk.",
		"Verified":      "Base and segments are read again some time after they were written, and compared with their checksums. A segment that is still being written can't be verified yet.",

		// The archive.
		"Archive":       "What all generations of the master take on the disk.",
		"Disk free":     "What may still be written to the file system of the archive.",
		"Segments":      "The log is cut into files, the segments. A sealed one is complete, and is verified some time later.",
		"Rebases":       "New bases that were taken beside the running stream, so that a restore has less to replay and old generations may go.",
		"Rebase failed": "Why the last rebase did not come to an end. The log goes on, and the next rebase is tried later.",
		"Folder":        "Where the files are. Each generation is a folder that redis-server loads as it stands.",

		// The figures.
		"Received":       "The replication offset of the last byte that came from the master. The master counts the bytes of its stream; the offset is that count.",
		"Stored":         "The offset of the last byte that was written to the archive's files.",
		"Fsynced":        "The offset of the last byte that fsync(2) has made durable: what survives a power cut.",
		"Acknowledged":   "The offset of the last REPLCONF ACK, which told the master how far its data is safe. WAIT and WAITAOF of the master's clients look at it.",
		"Lag":            "What has been received and is not durable yet, and for how long the oldest byte of it has waited. With everysec up to two seconds are ordinary.",
		"Last byte":      "When something came from the master last. An idle master sends a PING every ten seconds.",
		"In and out":     "All bytes from the master and to it since replicad started, full syncs among them.",
		"Syncs":          "A full sync sends all data; a partial one goes on from the offset where the link was cut. Behind it is why full syncs began.",
		"Replication id": "The name of the master's history of writes. An offset means something only together with it.",
		"Former id":      "The name that the history had before a failover. It holds up to the offset beside it.",
		"Paused":         "The disk does not keep up, so replicad has stopped reading. The master keeps the bytes meanwhile.",
		"Last failure":   "Why the link ended last, or an attempt to connect failed, and how many there were by cause.",
		"Next attempt":   "When replicad tries to connect again. It waits longer after each failure.",

		// The graphs.
		"Stream":   "Bytes of the replication stream a second. The RDB of a full sync is not counted.",
		"Commands": "Commands of the replication stream a second: the master's writes.",
		"Offset":   "How the replication offset grew: what was received, and what is fsynced.",

		// The states and phases of the link.
		"NONE":         "There is no connection. An attempt may be waiting for its time.",
		"CONNECTING":   "The connection to the master is being made.",
		"RECEIVE_PONG": "The link has sent PING, and waits for the answer.",
		"SYNC":         "The link introduces itself, gets the data, and then follows the stream. The phases are the parts of this state.",
		"AUTH":         "The link has sent user and password.",
		"PORT":         "The link has told the port that the master shows for it.",
		"IP":           "The link has told the address that the master shows for it.",
		"CAPA":         "The link has told what it is capable of.",
		"VERSION":      "The link has told which version of Redis it behaves like.",
		"PSYNC":        "The link has asked to go on from its offset, or for all data, and waits for the answer.",
		"TRANSFER":     "A full sync: the master prepares or sends a copy of all its data.",
		"STREAM":       "The link receives each write of the master as it happens. This is the state of a backup that is sound.",
	}
}
