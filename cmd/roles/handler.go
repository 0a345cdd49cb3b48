package roles

import (
	"context"
	"net/http"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/matrix-org/dendrite/common/config"
	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/rpc"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

// handler makes the handler of all public endpoints of the process's roles.
func (p *process) handler(metrics prometheus.Registerer) (http.Handler, error) {
	var all []httpapi.Endpoint
	for _, role := range p.roles {
		if e, ok := role.(endpoints); ok {
			all = append(all, e.Endpoints()...)
		}
	}
	h, info := p.config.HTTP, p.config.Global.WellKnownClientBaseURL
	if info == "" {
		info = "https://" + p.config.Global.ServerName
	}
	return httpapi.NewRouter(httpapi.Options{Authenticator: authenticator{p.world.caller}, Limits: limiter(p.config.RateLimiting), Logger: p.logger,
		Metrics: metrics, MaxBody: h.MaxBodyBytes, BodyTimeout: h.BodyTimeout, TrustedProxies: h.Proxies(), InfoURI: strings.TrimRight(info, "/") + "/"}, all)
}

func limiter(c config.RateLimiting) *httpapi.Limiter {
	buckets := c.Buckets()
	if buckets == nil {
		return nil
	}
	rates := map[httpapi.Limit]httpapi.Rate{}
	for name, r := range buckets {
		rates[httpapi.Limit(name)] = httpapi.Rate{PerSecond: r.PerSecond, Burst: r.Burst}
	}
	return httpapi.NewLimiter(rates)
}

// authenticator asks the user-api whose token it is.
type authenticator struct{ caller rpc.Caller }

// Authenticate implements httpapi.Authenticator.
func (a authenticator) Authenticate(ctx context.Context, token string) (*httpapi.Device, error) {
	res, err := userapi.VerifyToken.Call(ctx, a.caller, &userapi.VerifyTokenRequest{Token: token})
	if err != nil {
		return nil, err
	}
	return &res.Device, nil
}
