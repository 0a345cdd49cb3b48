package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

type object = map[string]any

// client is a user's.
type client struct {
	base, token, id, device string
	http                    *http.Client
}

// connections are shared by all clients.
var connections = &http.Client{
	Timeout:   5 * time.Minute,
	Transport: &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true},
}

// failure is an answer that is not 200.
type failure struct {
	status  int
	errcode string
	text    string
}

// Error implements error.
func (f *failure) Error() string { return f.text }

// whole reads an answer, which has to be one of 200.
func whole(res *http.Response) ([]byte, error) {
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, err
	}
	if res.StatusCode == http.StatusOK {
		return data, nil
	}
	f := &failure{status: res.StatusCode, text: fmt.Sprintf("%s %s: %s %.200s", res.Request.Method, res.Request.URL.Path, res.Status, data)}
	var said struct {
		Errcode string `json:"errcode"`
	}
	if json.Unmarshal(data, &said) == nil { // what is no JSON has no errcode
		f.errcode = said.Errcode
	}
	return nil, f
}

// request sends a request; path begins with a slash, and is the client API's v3 unless
// it begins with /_.
func (c *client) request(ctx context.Context, method, path, contentType string, body []byte) (*http.Response, error) {
	if !strings.HasPrefix(path, "/_") {
		path = "/_matrix/client/v3" + path
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	return c.http.Do(req)
}

// raw returns the bytes of an answer.
func (c *client) raw(ctx context.Context, method, path string, body any) ([]byte, error) {
	var data []byte
	contentType := ""
	if body != nil {
		var err error
		if data, err = json.Marshal(body); err != nil {
			return nil, err
		}
		contentType = "application/json"
	}
	res, err := c.request(ctx, method, path, contentType, data)
	if err != nil {
		return nil, err
	}
	return whole(res)
}

// call reads an answer into answer, which may be nil.
func (c *client) call(ctx context.Context, method, path string, body, answer any) error {
	data, err := c.raw(ctx, method, path, body)
	if err != nil || answer == nil {
		return err
	}
	if err := json.Unmarshal(data, answer); err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	return nil
}

// session is the answer to a registration.
type session struct {
	ID     string `json:"user_id"`
	Token  string `json:"access_token"`
	Device string `json:"device_id"`
}

func (b *bench) client(s session) *client {
	return &client{base: b.target.url, token: s.Token, id: s.ID, device: s.Device, http: connections}
}

// register makes an account; names are this run's own.
func (b *bench) register(ctx context.Context, name string) (*client, error) {
	var s session
	name = b.unique + name
	anybody := b.client(s)
	const password = "correct horse battery"
	if b.target.secret == "" {
		err := anybody.call(ctx, "POST", "/register", object{"username": name, "password": password, "auth": object{"type": "m.login.dummy"}}, &s)
		return b.client(s), err
	}
	const path = "/_synapse/admin/v1/register"
	var nonce struct {
		Nonce string `json:"nonce"`
	}
	if err := anybody.call(ctx, "GET", path, nil, &nonce); err != nil {
		return nil, err
	}
	h := hmac.New(sha1.New, []byte(b.target.secret))
	h.Write([]byte(strings.Join([]string{nonce.Nonce, name, password, "notadmin"}, "\x00")))
	err := anybody.call(ctx, "POST", path, object{"nonce": nonce.Nonce, "username": name, "password": password, "admin": false, "mac": hex.EncodeToString(h.Sum(nil))}, &s)
	return b.client(s), err
}

// registerMany makes accounts.
func (b *bench) registerMany(ctx context.Context, name string, n int) ([]*client, error) {
	all := make([]*client, n)
	return all, each(ctx, n, 8, func(ctx context.Context, i int) (err error) {
		all[i], err = b.register(ctx, fmt.Sprint(name, i))
		return err
	})
}

// guests makes guest accounts, which have no password that takes long to hash; where
// there are none, others.
func (b *bench) guests(ctx context.Context, name string, n int) ([]*client, error) {
	var s session
	if err := b.client(s).call(ctx, "POST", "/register?kind=guest", object{}, &s); err != nil {
		return b.registerMany(ctx, name, n)
	}
	all := make([]*client, n)
	return all, each(ctx, n, 16, func(ctx context.Context, i int) error {
		var s session
		err := b.client(s).call(ctx, "POST", "/register?kind=guest", object{}, &s)
		all[i] = b.client(s)
		return err
	})
}

func (c *client) createRoom(ctx context.Context, body object) (string, error) {
	var room struct {
		ID string `json:"room_id"`
	}
	err := c.call(ctx, "POST", "/createRoom", body, &room)
	return room.ID, err
}

func (c *client) join(ctx context.Context, room string) error {
	return c.call(ctx, "POST", "/join/"+url.PathEscape(room), object{}, nil)
}

// send sends a message.
func (c *client) send(ctx context.Context, room, txn, text string) error {
	return c.call(ctx, "PUT", "/rooms/"+url.PathEscape(room)+"/send/m.room.message/"+txn, object{"msgtype": "m.text", "body": text}, nil)
}

// usual is a message of the usual length.
const usual = "a message of usual length, as people write them to each other"
