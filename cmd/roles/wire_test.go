package roles

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/sirupsen/logrus"

	"github.com/matrix-org/dendrite/common/rpc"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	roomserver "github.com/matrix-org/dendrite/roomserver/api"
)

// methods are those of all roles.
func methods(t *testing.T) map[string]rpc.Signature {
	logger := logrus.New()
	logger.SetOutput(t.Output())
	p := newProcess(configuration(t), logger)
	t.Cleanup(func() {
		if err := p.close(); err != nil {
			t.Error(err)
		}
	})
	if err := p.open(t.Context(), table()); err != nil {
		t.Fatal(err)
	}
	return p.rpc.Methods()
}

// TestMethodsTravel: what roles ask and answer arrives whole in another process,
// whatever is in it.
func TestMethodsTravel(t *testing.T) {
	all := methods(t)
	if len(all) < 50 {
		t.Errorf("there are %d methods only", len(all))
	}
	services := map[string]bool{}
	for name, m := range all {
		service, _, _ := strings.Cut(name, "/")
		services[service] = true
		for what, typ := range map[string]reflect.Type{"request": m.Request, "response": m.Response} {
			if wrong := carried(typ, nil); len(wrong) > 0 {
				t.Errorf("%s: what does not travel of the %s: %s", name, what, strings.Join(wrong, ", "))
				continue
			}
			for _, full := range []bool{false, true} {
				sent, arrived := reflect.New(typ), reflect.New(typ)
				if full {
					fill(sent.Elem(), 0)
				}
				if err := rpc.Travel(sent.Interface(), arrived.Interface()); err != nil {
					t.Errorf("%s: the %s: %v", name, what, err)
				} else if !reflect.DeepEqual(sent.Interface(), arrived.Interface()) {
					t.Errorf("%s: of the %s\n%+v arrives as\n%+v", name, what, sent, arrived)
				}
			}
		}
	}
	for _, s := range table() {
		if s.service != "" && !services[s.service] {
			t.Errorf("%s serves no method", s.name)
		}
	}
}

// Types that say themselves what travels of them, both ways.
var (
	writers = []reflect.Type{reflect.TypeFor[json.MarshalerTo](), reflect.TypeFor[json.Marshaler](), reflect.TypeFor[encoding.TextMarshaler]()}
	readers = []reflect.Type{reflect.TypeFor[json.UnmarshalerFrom](), reflect.TypeFor[json.Unmarshaler](), reflect.TypeFor[encoding.TextUnmarshaler]()}
)

func ownForm(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	implements := func(i reflect.Type) bool { return p.Implements(i) }
	return t == reflect.TypeFor[jsontext.Value]() || t == reflect.TypeFor[time.Duration]() ||
		slices.ContainsFunc(writers, implements) && slices.ContainsFunc(readers, implements)
}

// carried lists what of a type would not arrive.
func carried(t reflect.Type, within []reflect.Type) (wrong []string) {
	if ownForm(t) || slices.Contains(within, t) {
		return nil
	}
	within = append(slices.Clone(within), t)
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array:
		return carried(t.Elem(), within)
	case reflect.Map:
		switch key := t.Key(); {
		case ownForm(key), key.Kind() == reflect.String, key.Kind() >= reflect.Int && key.Kind() <= reflect.Uint64:
		default:
			wrong = append(wrong, "keys of "+t.String())
		}
		return append(wrong, carried(t.Elem(), within)...)
	case reflect.Struct:
		for _, f := range reflect.VisibleFields(t) {
			if len(f.Index) > 1 {
				continue // its embedded struct is looked at itself
			}
			switch {
			case !f.IsExported():
				wrong = append(wrong, fmt.Sprintf("%s.%s", t, f.Name))
			case f.Tag.Get("json") == "-":
				wrong = append(wrong, fmt.Sprintf("%s.%s, left out by its tag", t, f.Name))
			default:
				wrong = append(wrong, carried(f.Type, within)...)
			}
		}
		return wrong
	case reflect.Interface, reflect.Func, reflect.Chan, reflect.UnsafePointer, reflect.Uintptr, reflect.Complex64, reflect.Complex128, reflect.Invalid:
		return []string{t.String()}
	}
	return nil
}

// maxFilled bounds how deep a type that holds itself is filled.
const maxFilled = 12

// fill gives everything within a value one that is not zero.
func fill(v reflect.Value, depth int) {
	switch t := v.Type(); {
	case depth > maxFilled:
	case t == reflect.TypeFor[roomserver.StoredEvent]():
		v.Set(reflect.ValueOf(stored()))
	case t == reflect.TypeFor[jsontext.Value]():
		v.SetBytes([]byte("{ \"n\" : 1.50 }"))
	case t == reflect.TypeFor[time.Time]():
		v.Set(reflect.ValueOf(time.Unix(1_700_000_000, 123_000_000).UTC()))
	case t.Kind() == reflect.String:
		v.SetString("a\x00\"ü<")
	case t.Kind() == reflect.Bool:
		v.SetBool(true)
	case v.CanInt():
		v.SetInt(101)
	case v.CanUint():
		v.SetUint(102)
	case v.CanFloat():
		v.SetFloat(1.25)
	case t.Kind() == reflect.Pointer:
		v.Set(reflect.New(t.Elem()))
		fill(v.Elem(), depth+1)
	case t.Kind() == reflect.Slice:
		v.Set(reflect.MakeSlice(t, 2, 2))
		fallthrough
	case t.Kind() == reflect.Array:
		for i := range v.Len() {
			fill(v.Index(i), depth+1)
		}
	case t.Kind() == reflect.Map:
		v.Set(reflect.MakeMap(t))
		key, value := reflect.New(t.Key()).Elem(), reflect.New(t.Elem()).Elem()
		fill(key, depth+1)
		fill(value, depth+1)
		v.SetMapIndex(key, value)
	case t.Kind() == reflect.Struct:
		for i := range t.NumField() {
			fill(v.Field(i), depth+1)
		}
	}
}

// stored is an event with all that is stored of one.
func stored() roomserver.StoredEvent {
	event, err := gomatrixserverlib.ParseStoredEvent([]byte(`{"type":"m.room.message", "sender":"@a:b","room_id":"!a:b","content":{"n":1}}`),
		gomatrixserverlib.RoomVersionV11, "$event")
	if err != nil {
		panic(err)
	}
	return roomserver.StoredEvent{Event: event, Position: roomserver.Position{Partition: 1, Seq: 2, Sub: -3}, ReplacesState: "$old",
		Device: "D", TxnID: "t", HistoryVisibility: "joined", HistoryVisibilityBefore: "shared",
		Rejected: true, SoftFailed: true, Outlier: true, RedactedBy: "$redaction"}
}

// TestCarried: the test above finds what does not travel.
func TestCarried(t *testing.T) {
	type embedded struct{ Text string }
	for want, typ := range map[string]reflect.Type{
		"roles.hidden": reflect.TypeFor[struct{ hidden int }](),
		"keys of":      reflect.TypeFor[map[struct{ A int }]string](),
		"interface {}": reflect.TypeFor[struct{ Any []any }](),
		"func()":       reflect.TypeFor[map[string]func()](),
		"chan int":     reflect.TypeFor[*struct{ C chan int }](),
		"left out": reflect.TypeFor[struct {
			A int `json:"-"`
		}](),
		"embedded": reflect.TypeFor[struct{ embedded }](),
	} {
		if wrong := strings.Join(carried(typ, nil), ", "); !strings.Contains(wrong, strings.TrimPrefix(want, "roles.")) {
			t.Errorf("of %v: %q, want %s", typ, wrong, want)
		}
	}
}
