package sqldb

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/lib/pq"
)

// Tx is a transaction: for one goroutine, until the function that it was given
// to returns. Rows must be closed before the next statement runs.
type Tx struct {
	engine engine
	conn   *conn
}

// Exec runs a statement.
func (tx *Tx) Exec(ctx context.Context, text string, args ...any) (sql.Result, error) {
	stmt, err := tx.prepare(ctx, text)
	if err != nil {
		return nil, err
	}
	if err := tx.lists(args); err != nil {
		return nil, err
	}
	return stmt.ExecContext(ctx, args...)
}

// Query runs a statement that returns rows.
func (tx *Tx) Query(ctx context.Context, text string, args ...any) (*sql.Rows, error) {
	stmt, err := tx.prepare(ctx, text)
	if err != nil {
		return nil, err
	}
	if err := tx.lists(args); err != nil {
		return nil, err
	}
	return stmt.QueryContext(ctx, args...)
}

// Row is the one row that QueryRow expects.
type Row struct {
	row *sql.Row
	err error
}

// Scan copies the row's columns; sql.ErrNoRows if there was none.
func (r *Row) Scan(dest ...any) error {
	if r.err != nil {
		return r.err
	}
	return r.row.Scan(dest...)
}

// QueryRow runs a statement that returns at most one row.
func (tx *Tx) QueryRow(ctx context.Context, text string, args ...any) *Row {
	stmt, err := tx.prepare(ctx, text)
	if err == nil {
		err = tx.lists(args)
	}
	if err != nil {
		return &Row{err: err}
	}
	return &Row{row: stmt.QueryRowContext(ctx, args...)}
}

func (tx *Tx) prepare(ctx context.Context, text string) (*sql.Stmt, error) {
	if stmt := tx.conn.stmts[text]; stmt != nil {
		return stmt, nil
	}
	if len(tx.conn.stmts) >= maxStatements {
		for old, stmt := range tx.conn.stmts { // any will do: texts are few where nothing is wrong
			delete(tx.conn.stmts, old)
			if err := stmt.Close(); err != nil {
				return nil, err
			}
			break
		}
	}
	stmt, err := tx.conn.PrepareContext(ctx, text)
	if err != nil {
		return nil, fmt.Errorf("sqldb: prepare %q: %w", text, err)
	}
	tx.conn.stmts[text] = stmt
	return stmt, nil
}

// lists gives list arguments the form that the engine's Any takes.
func (tx *Tx) lists(args []any) error {
	for i, arg := range args {
		l, ok := arg.(list)
		if !ok {
			continue
		}
		if tx.engine == enginePostgres {
			args[i] = pq.Array(l.values)
			continue
		}
		text, err := json.Marshal(l.values)
		if err != nil {
			return fmt.Errorf("sqldb: list: %w", err)
		}
		args[i] = string(text)
	}
	return nil
}

// Script runs a text of several statements without arguments, not prepared.
func (tx *Tx) Script(ctx context.Context, text string) (sql.Result, error) {
	return tx.conn.ExecContext(ctx, text)
}
