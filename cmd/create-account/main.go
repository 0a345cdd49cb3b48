// Command create-account makes an account on a running server, with the shared
// secret of its configuration (registration.shared_secret).
//
//	create-account --username alice --admin --shared-secret-file secret < password
//
// The password comes from --password or, better, because others can see what a
// process was started with, from the first line of the standard input. The
// secret comes from --shared-secret, --shared-secret-file or the environment
// variable DENDRITE_REGISTRATION_SHARED_SECRET.
package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha1" // the protocol's choice
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
)

const (
	requestTimeout = 30 * time.Second
	maxAnswerBytes = 64 << 10
	secretVariable = "DENDRITE_REGISTRATION_SHARED_SECRET"
)

func main() {
	userID, err := run(context.Background(), os.Args[1:], os.Getenv(secretVariable), os.Stdin, os.Stderr)
	if err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "create-account:", err)
		}
		os.Exit(1)
	}
	fmt.Println(userID)
}

// account is what is asked for.
type account struct {
	url, name, password, secret, displayName string
	admin                                    bool
}

func run(ctx context.Context, arguments []string, secret string, in io.Reader, out io.Writer) (userID string, err error) {
	var a account
	flags := flag.NewFlagSet("create-account", flag.ContinueOnError)
	flags.SetOutput(out)
	flags.StringVar(&a.url, "url", "http://127.0.0.1:8008", "where the server listens for clients")
	flags.StringVar(&a.name, "username", "", "name of the account, without @ and server")
	flags.StringVar(&a.password, "password", "", "password; left out, the first line of the standard input")
	flags.StringVar(&a.displayName, "displayname", "", "display name; left out, the server's choice")
	flags.BoolVar(&a.admin, "admin", false, "make the account an administrator of the server")
	flags.StringVar(&a.secret, "shared-secret", "", "registration.shared_secret; left out, "+secretVariable)
	secretFile := flags.String("shared-secret-file", "", "file with the shared secret")
	if err := flags.Parse(arguments); err != nil {
		return "", err
	}
	if flags.NArg() > 0 {
		return "", fmt.Errorf("%q is not a flag", flags.Arg(0))
	}
	if a.name == "" {
		return "", errors.New("--username is needed")
	}
	if a.secret, err = chooseSecret(a.secret, *secretFile, secret); err != nil {
		return "", err
	}
	if a.password == "" {
		line, err := bufio.NewReader(in).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return "", err
		}
		if a.password = strings.TrimRight(line, "\r\n"); a.password == "" {
			return "", errors.New("the password is empty")
		}
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	return a.create(ctx)
}

func chooseSecret(given, file, environment string) (string, error) {
	if given == "" && file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		given = strings.TrimRight(string(text), "\r\n")
	}
	if given == "" {
		given = environment
	}
	if given == "" {
		return "", errors.New("the shared secret is needed: --shared-secret, --shared-secret-file or " + secretVariable)
	}
	return given, nil
}

const registerPath = "/_synapse/admin/v1/register"

type nonceResponse struct {
	Nonce string `json:"nonce"`
}

type registerRequest struct {
	Nonce       string `json:"nonce"`
	Username    string `json:"username"`
	Password    string `json:"password"`
	DisplayName string `json:"displayname,omitzero"`
	Admin       bool   `json:"admin"`
	MAC         string `json:"mac"`
}

type registerResponse struct {
	UserID string `json:"user_id"`
}

// create asks for a nonce and answers it with the proof of knowing the secret.
func (a account) create(ctx context.Context) (string, error) {
	var nonce nonceResponse
	if err := a.call(ctx, http.MethodGet, nil, &nonce); err != nil {
		return "", err
	}
	body, err := json.Marshal(registerRequest{
		Nonce: nonce.Nonce, Username: a.name, Password: a.password, DisplayName: a.displayName, Admin: a.admin, MAC: a.mac(nonce.Nonce),
	})
	if err != nil {
		return "", err
	}
	var made registerResponse
	if err := a.call(ctx, http.MethodPost, body, &made); err != nil {
		return "", err
	}
	return made.UserID, nil
}

// mac is the proof: a MAC of what is asked for, with the secret as its key.
func (a account) mac(nonce string) string {
	role := "notadmin"
	if a.admin {
		role = "admin"
	}
	h := hmac.New(sha1.New, []byte(a.secret))
	h.Write([]byte(strings.Join([]string{nonce, a.name, a.password, role}, "\x00")))
	return hex.EncodeToString(h.Sum(nil))
}

// call sends a request and decodes its answer.
func (a account) call(ctx context.Context, method string, body []byte, into any) (err error) {
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimRight(a.url, "/")+registerPath, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, res.Body.Close()) }()
	text, err := io.ReadAll(io.LimitReader(res.Body, maxAnswerBytes))
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("the server answered %s: %.500q", res.Status, text)
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("the server's answer is not understood: %w", err)
	}
	return nil
}
