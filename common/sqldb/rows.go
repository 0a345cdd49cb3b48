package sqldb

import (
	"context"
	"database/sql"
	"errors"
)

// Each calls f for every row of a query; f scans the row's columns. It ends with
// the first error.
func (tx *Tx) Each(ctx context.Context, f func(scan func(...any) error) error, text string, args ...any) error {
	rows, err := tx.Query(ctx, text, args...)
	if err != nil {
		return err
	}
	for rows.Next() {
		if err := f(rows.Scan); err != nil {
			return errors.Join(err, rows.Close())
		}
	}
	return errors.Join(rows.Err(), rows.Close())
}

// Texts reads the only column of a query.
func (tx *Tx) Texts(ctx context.Context, text string, args ...any) (out []string, err error) {
	err = tx.Each(ctx, func(scan func(...any) error) error {
		var s string
		err := scan(&s)
		out = append(out, s)
		return err
	}, text, args...)
	return out, err
}

// Found turns the error of a row that is not there, sql.ErrNoRows, into false.
func Found(err error) (bool, error) {
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}

// Affected tells whether a statement changed any row.
func Affected(res sql.Result, err error) (bool, error) {
	if err != nil {
		return false, err
	}
	n, err := res.RowsAffected()
	return n > 0, err
}
