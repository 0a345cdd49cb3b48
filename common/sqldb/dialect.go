package sqldb

import (
	"bytes"
	"io"
	"io/fs"
	"regexp"
	"time"
)

// What migrations say differently on SQLite. Elsewhere one text does: a
// BIGINT PRIMARY KEY is the table's own order there only as INTEGER, and
// "-- clustered" behind a table's end asks for that of a primary key of several
// columns. An index is made "CONCURRENTLY" only where others write meanwhile.
// A table of terms (fulltext.go) is FTS5's, which brings its index along: of what
// is put there it keeps neither the text nor the places of terms.
var (
	termTable     = regexp.MustCompile(`CREATE TABLE (\w+) \(rowid BIGINT PRIMARY KEY, (\w+) TSVECTOR NOT NULL\);`)
	termIndex     = regexp.MustCompile(`CREATE INDEX \w+ ON \w+ USING gin \(\w+\);`)
	bigPrimaryKey = regexp.MustCompile(`BIGINT(\s+)PRIMARY KEY`)
	clustered     = regexp.MustCompile(`\);\s*-- clustered`)
	concurrently  = regexp.MustCompile(`INDEX CONCURRENTLY`)
)

// sqliteFS is a folder of migrations as SQLite gets them.
type sqliteFS struct{ fs.FS }

// Open implements fs.FS.
func (f sqliteFS) Open(name string) (fs.File, error) {
	file, err := f.FS.Open(name)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err != nil || info.IsDir() {
		return file, err
	}
	text, err := io.ReadAll(file)
	if err = firstOf(err, file.Close()); err != nil {
		return nil, err
	}
	text = termTable.ReplaceAll(text, []byte("CREATE VIRTUAL TABLE ${1} USING fts5(${2}, content='', contentless_delete=1, detail=none, tokenize='ascii');"))
	text = termIndex.ReplaceAll(text, nil)
	text = bigPrimaryKey.ReplaceAll(text, []byte("INTEGER${1}PRIMARY KEY"))
	text = clustered.ReplaceAll(text, []byte(") WITHOUT ROWID;"))
	text = concurrently.ReplaceAll(text, []byte("INDEX"))
	return &sqliteFile{Reader: bytes.NewReader(text), info: sqliteInfo{info, int64(len(text))}}, nil
}

func firstOf(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

type sqliteFile struct {
	*bytes.Reader
	info sqliteInfo
}

func (f *sqliteFile) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f *sqliteFile) Close() error               { return nil }

type sqliteInfo struct {
	fs.FileInfo
	size int64
}

func (i sqliteInfo) Size() int64        { return i.size }
func (i sqliteInfo) ModTime() time.Time { return time.Time{} }
