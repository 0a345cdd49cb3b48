package pushapi

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"

	"github.com/go-json-experiment/json"

	"github.com/matrix-org/dendrite/common/netguard"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

// maxAnswer bounds what is read of a gateway's answer.
const maxAnswer = 64 << 10

// newClient makes the client for gateways: it goes where the guard lets it, and
// nowhere else that an answer says.
func (s *Server) newClient(guard *netguard.Guard) *http.Client {
	transport := guard.Transport()
	transport.MaxIdleConnsPerHost = s.config.MaxPerGateway
	return &http.Client{Transport: transport, Timeout: s.config.Timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// post tells a gateway something: errEnded if it rejects the pusher's key, errGateway
// or why it cannot be reached if it is to be asked again.
// spec: push-gateway-api §homeserver-behaviour
func (s *Server) post(ctx context.Context, p *userapi.Pusher, note *notification) error {
	body, err := json.Marshal(map[string]*notification{"notification": note})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, urlOf(p), bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("%w: %w", errGateway, err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "Dendrite")
	res, err := s.client.Do(req)
	if err != nil {
		return fmt.Errorf("%w: %w", errGateway, err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("%w: %w", errGateway, err)
	}
	if res.StatusCode/100 != 2 {
		return fmt.Errorf("%w: %s", errGateway, res.Status)
	}
	var said struct {
		Rejected []string `json:"rejected"`
	}
	if len(answer) > 0 && json.Unmarshal(answer, &said) != nil {
		return nil // it took it, whatever else it says
	}
	if slices.Contains(said.Rejected, p.Pushkey) {
		return errEnded
	}
	return nil
}
