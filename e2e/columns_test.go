package e2e

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
)

// oneColumn are the tests that do not run both all in one (embedded log, SQLite)
// and as a cluster (Kafka, PostgreSQL, two instances of every role), and why. All
// others do, by everywhere or inBoth.
var oneColumn = map[string]string{
	// Of one process, its log and its files.
	"TestSignals":           "a data folder that is in use, and the stop of the only process; in a cluster TestRollingRestart",
	"TestStoreCutBack":      "SQLite files that lost their end; in a cluster TestDatabaseRestored, TestStoresRestored, and TestDatabaseRestarts by SIGKILL",
	"TestDiskFullUnderLoad": "in a cluster TestDiskFull; where PostgreSQL's write-ahead log or a broker finds no room they end, as in TestDatabaseRestarts and TestBrokerAway",
	"TestInternalListener":  "a disk that a process keeps its log and stores on: those of a cluster are elsewhere. Its roles' /ready is asked in TestBrokerAway, their listener in cmd/roles",

	// Of what only a cluster has.
	"TestInstancesDie":      "one instance of several; all in one TestCrashes",
	"TestStoppedPastLease":  "leases are lost only to other instances",
	"TestStopped":           "leases are lost only to other instances",
	"TestBrokerRestarts":    "brokers",
	"TestBrokerAway":        "brokers",
	"TestBrokerOfThreeDies": "brokers",
	"TestDatabaseRestarts":  "a database that is a server",
	"TestDatabaseRestored":  "all stores at once; the embedded log beside them is in cmd/roles/admin, TestRestored",
	"TestLogRestored":       "Kafka's log; the embedded one is in cmd/roles/admin, TestRestored",
	"TestStoresRestored":    "stores that are backed up each by itself; files of SQLite are in cmd/roles/admin, TestRestored",
	"TestRollingRestart":    "one instance goes on while another restarts",
	"TestGrowAndShrink":     "several instances",

	// Of both columns in their own words, or of none.
	"TestUpgrade": "of both: see there",
	"TestPlanted": "of both: bugs that any deployment can have all in one, and those that only a cluster can have there",
	"TestColumns": "looks at this package alone",
	"TestWalk":    "looks at this package alone",
}

// TestColumns: each test of this package runs in both columns, or oneColumn says
// why it does not.
func TestColumns(t *testing.T) {
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range parsed.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Recv != nil || !strings.HasPrefix(f.Name.Name, "Test") || f.Name.Name == "TestMain" {
				continue
			}
			name := f.Name.Name
			seen[name] = true
			switch why, listed := oneColumn[name]; {
			case runsInBoth(f) == listed:
				t.Errorf("%s: %s must either run in both columns or be among those that do not, here: %v", file, name, listed)
			case listed && why == "":
				t.Errorf("%s: there is no reason why it runs in one column only", name)
			}
		}
	}
	for name := range oneColumn {
		if !seen[name] {
			t.Errorf("%s is listed and not there", name)
		}
	}
}

// runsInBoth tells whether a test calls everywhere or inBoth.
func runsInBoth(f *ast.FuncDecl) (does bool) {
	ast.Inspect(f, func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok {
			if id, ok := call.Fun.(*ast.Ident); ok && (id.Name == "everywhere" || id.Name == "inBoth") {
				does = true
			}
		}
		return true
	})
	return does
}
