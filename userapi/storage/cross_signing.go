package storage

import (
	"context"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/sqldb"
)

// CrossKey is a user's cross-signing key of a usage.
type CrossKey struct {
	UserID, Usage string
	// Public is the key in base64, as its name has it.
	Public string
	Key    jsontext.Value
}

// CrossKeys returns the cross-signing keys of users.
func (d *Database) CrossKeys(ctx context.Context, tx *sqldb.Tx, userIDs []string) (out []CrossKey, err error) {
	err = tx.Each(ctx, func(scan func(...any) error) error {
		var k CrossKey
		var key string
		err := scan(&k.UserID, &k.Usage, &k.Public, &key)
		k.Key = jsontext.Value(key)
		out = append(out, k)
		return err
	}, "SELECT user_id, usage, public, key FROM cross_signing_keys WHERE user_id "+d.Any("$1"), sqldb.List(userIDs))
	return out, err
}

// PutCrossKey stores a user's key of a usage.
func (d *Database) PutCrossKey(ctx context.Context, tx *sqldb.Tx, k CrossKey) error {
	_, err := tx.Exec(ctx, `INSERT INTO cross_signing_keys (user_id, usage, public, key) VALUES ($1, $2, $3, $4)
		ON CONFLICT (user_id, usage) DO UPDATE SET public = excluded.public, key = excluded.key`, k.UserID, k.Usage, k.Public, string(k.Key))
	return err
}

// DropCrossKey deletes a key with the signatures of it and by it.
func (d *Database) DropCrossKey(ctx context.Context, tx *sqldb.Tx, k CrossKey) error {
	if _, err := tx.Exec(ctx, "DELETE FROM cross_signing_keys WHERE user_id = $1 AND usage = $2", k.UserID, k.Usage); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, "DELETE FROM key_signatures WHERE user_id = $1 AND key_id = $2", k.UserID, k.Public); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, "DELETE FROM key_signatures WHERE signer_id = $1 AND signer_key = $2", k.UserID, "ed25519:"+k.Public)
	return err
}

// KeySignature is a signature of a device's or a master key, by a key of its own
// user or of another.
type KeySignature struct {
	UserID, KeyID       string
	SignerID, SignerKey string
	Signature           string
}

// KeySignatures returns the signatures of users' keys that a user may see: by the
// keys' own users, and by the one who asks.
func (d *Database) KeySignatures(ctx context.Context, tx *sqldb.Tx, userIDs []string, viewer string) (out []KeySignature, err error) {
	err = tx.Each(ctx, func(scan func(...any) error) error {
		var s KeySignature
		err := scan(&s.UserID, &s.KeyID, &s.SignerID, &s.SignerKey, &s.Signature)
		out = append(out, s)
		return err
	}, `SELECT user_id, key_id, signer_id, signer_key, signature FROM key_signatures
		WHERE user_id `+d.Any("$1")+` AND (signer_id = user_id OR signer_id = $2)`, sqldb.List(userIDs), viewer)
	return out, err
}

// PutKeySignatures stores signatures; it returns how many are new.
func (d *Database) PutKeySignatures(ctx context.Context, tx *sqldb.Tx, list []KeySignature) (int64, error) {
	rows := make([][]any, len(list))
	for i, s := range list {
		rows[i] = []any{s.UserID, s.KeyID, s.SignerID, s.SignerKey, s.Signature}
	}
	return tx.ExecMany(ctx, `INSERT INTO key_signatures (user_id, key_id, signer_id, signer_key, signature) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (user_id, key_id, signer_id, signer_key) DO UPDATE SET signature = excluded.signature
		WHERE key_signatures.signature <> excluded.signature`, []int{1, 2, 3, 4}, rows)
}

// DropKeySignatures deletes the signatures of a key.
func (d *Database) DropKeySignatures(ctx context.Context, tx *sqldb.Tx, userID, keyID string) error {
	_, err := tx.Exec(ctx, "DELETE FROM key_signatures WHERE user_id = $1 AND key_id = $2", userID, keyID)
	return err
}

// Known returns those of the users who have accounts that are not deactivated.
func (d *Database) Known(ctx context.Context, tx *sqldb.Tx, userIDs []string) (out []string, err error) {
	return tx.Texts(ctx, "SELECT user_id FROM accounts WHERE user_id "+d.Any("$1")+" AND NOT deactivated", sqldb.List(userIDs))
}
