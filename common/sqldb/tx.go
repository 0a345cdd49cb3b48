package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/lib/pq"
)

// Tx is a transaction: for one goroutine, until the function that it was given
// to returns. Rows must be closed before the next statement runs.
type Tx struct {
	engine engine
	conn   *conn
	failed error // of a statement: what there is in the transaction is void
}

// note keeps in mind that a statement failed.
func (tx *Tx) note(err error) error {
	switch {
	case err == nil:
		tx.conn.answered = true
	case tx.failed == nil:
		tx.failed = err
	}
	return err
}

// statement prepares a statement and its arguments. None begins for a caller that
// has gone; on PostgreSQL one that has begun runs to its end (or statement_timeout):
// to interrupt it would cost the connection.
func (tx *Tx) statement(ctx context.Context, text string, args []any) (context.Context, *sql.Stmt, []any, error) {
	if err := ctx.Err(); err != nil {
		return ctx, nil, nil, tx.note(err)
	}
	if tx.engine == enginePostgres {
		ctx = context.WithoutCancel(ctx)
	}
	tx.conn.statements.Add(1)
	stmt, err := tx.prepare(ctx, text)
	if err == nil {
		args, err = tx.arguments(args)
	}
	if err != nil {
		_ = tx.note(err)
	}
	return ctx, stmt, args, err
}

// Exec runs a statement.
func (tx *Tx) Exec(ctx context.Context, text string, args ...any) (sql.Result, error) {
	ctx, stmt, args, err := tx.statement(ctx, text, args)
	if err != nil {
		return nil, err
	}
	res, err := stmt.ExecContext(ctx, args...)
	return res, tx.note(err)
}

// Query runs a statement that returns rows.
func (tx *Tx) Query(ctx context.Context, text string, args ...any) (*Rows, error) {
	ctx, stmt, args, err := tx.statement(ctx, text, args)
	if err != nil {
		return nil, err
	}
	rows, err := stmt.QueryContext(ctx, args...)
	if tx.note(err) != nil {
		return nil, err
	}
	return &Rows{rows, tx}, nil
}

// Row is the one row that QueryRow expects.
type Row struct {
	row *sql.Row
	tx  *Tx
	err error
}

// Scan copies the row's columns; sql.ErrNoRows if there was none.
func (r *Row) Scan(dest ...any) error {
	if r.err != nil {
		return r.err
	}
	err := r.row.Scan(dest...)
	restore(dest)
	if errors.Is(err, sql.ErrNoRows) {
		r.tx.conn.answered = true
		return err
	}
	return r.tx.note(err)
}

// QueryRow runs a statement that returns at most one row.
func (tx *Tx) QueryRow(ctx context.Context, text string, args ...any) *Row {
	ctx, stmt, args, err := tx.statement(ctx, text, args)
	if err != nil {
		return &Row{err: err}
	}
	return &Row{row: stmt.QueryRowContext(ctx, args...), tx: tx}
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

// arguments gives texts and lists the form in which the engine takes them. It
// leaves args itself as it is: a transaction may run again.
func (tx *Tx) arguments(args []any) ([]any, error) {
	out, copied := args, false
	set := func(i int, v any) {
		if !copied {
			out, copied = slices.Clone(args), true
		}
		out[i] = v
	}
	for i, arg := range args {
		switch v := arg.(type) {
		case string:
			if s := storable(v); s != v {
				set(i, s)
			}
		case list:
			form, err := tx.list(v)
			if err != nil {
				return nil, err
			}
			set(i, form)
		case records:
			text, err := v.text()
			if err != nil {
				return nil, err
			}
			set(i, text)
		}
	}
	return out, nil
}

// list gives a list the form that the engine's Any takes.
func (tx *Tx) list(l list) (any, error) {
	if texts, ok := l.values.([]string); ok {
		out := make([]string, len(texts))
		for i, s := range texts {
			out[i] = storable(s)
		}
		l.values = out
	}
	if tx.engine == enginePostgres {
		return pq.Array(l.values), nil
	}
	text, err := json.Marshal(l.values)
	if err != nil {
		return nil, fmt.Errorf("sqldb: list: %w", err)
	}
	return string(text), nil
}

// Script runs a text of several statements without arguments, not prepared.
func (tx *Tx) Script(ctx context.Context, text string) (sql.Result, error) {
	res, err := tx.conn.ExecContext(ctx, text)
	return res, tx.note(err)
}
