package words

import (
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestTerms(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{"", ""},
		{" .,;!? -- ", ""},
		{"Hello, World!", "hello world"},
		{"hello HELLO Hello", "hello"},
		{"Straße STRASSE", "strasse"},
		{"Füße für Öl und Ärger", "füsse für öl und ärger"},
		{"Zu\u0308rich", "zürich"}, // a mark of its own
		{"l'avion can’t", "l avion can t"},
		{"see https://example.org/a_b?c=3.14", "see https example org a b c 3 14"},
		{"soft\u00adhyphen zero\u200bwidth", "softhyphen zero width"},
		{"ﬁne ＦＵＬＬ Ⅷ ①", "fine full viii 1"},
		{"Ωμέγα ΣΊΣΥΦΟΣ Сибирь", "ωμέγα σίσυφοσ сибирь"},
		{"İstanbul", "i̇stanbul"},
		{"مرحبا بالعالم", "مرحبا بالعالم"},
		{"שלום עולם", "שלום עולם"},
		{"नमस्ते दुनिया", "नमस्ते दुनिया"},
		{"東京都", "東京 京都 都"},
		{"東京に行く。", "東京 京に に行 行く く"},
		{"Tシャツを買う", "t シャ ャツ ツを を買 買う う"},
		{"ｶﾞﾗｽ ガラス", "ガラ ラス ス"}, // of half width
		{"スーパー", "スー ーパ パー ー"},
		{"我爱北京天安门", "我爱 爱北 北京 京天 天安 安门 门"},
		{"猫", "猫"},
		{"2024年", "2024 年"},
		{"สวัสดี", "สวั วัส สดี ดี"},
		{"ພາສາລາວ", "ພາ າສ ສາ າລ ລາ າວ ວ"},
		{"ភាសាខ្មែរ", "ភាសា សាខ្ ខ្មែ មែរ រ"},
		{"မြန်မာ", "မြန် န်မာ မာ"},
		{"한국어를 배운다", "한국 국어 어를 를 배운 운다 다"},
		{"party 🎉🎉 👍🏽 👨‍👩‍👧 🇩🇪🇫🇷", "party 🎉 👍 👨👩👧 🇩🇪 🇫🇷"},
		{"a\x00b\xffc", "a b c"},
	} {
		if got := strings.Join(Terms(test.text), " "); got != test.want {
			t.Errorf("%q: %q, not %q", test.text, got, test.want)
		}
	}
}

// finds tells whether a query's terms are all among those of a text.
func finds(query, text string) bool {
	terms, _, _ := Query(query, 1000)
	have := Terms(text)
	for _, want := range terms {
		if !slices.ContainsFunc(have, func(t string) bool { return t == want.Text || want.Begins && strings.HasPrefix(t, want.Text) }) {
			return false
		}
	}
	return len(terms) > 0
}

func TestFinds(t *testing.T) {
	for _, test := range []struct {
		query, text string
		want        bool
	}{
		{"martians men", "Of men and Martians", true},
		{"martians men", "Of martians", false},
		{"mart", "Of martians", false}, // words are whole
		{"京都", "東京都に住む", true},
		{"京", "東京", true},
		{"東", "東京", true},
		{"大阪", "東京", false},
		{"天安门", "我爱北京天安门", true},
		{"한국", "한국어를", true},
		{"ดี", "สวัสดีครับ", true},
		{"วัสดี", "สวัสดีครับ", true},
		{"STRASSE", "die Straße", true},
		{"ＦＵＬＬ", "full", true},
		{"🎉", "yay 🎉🎉!", true},
		{"👍️", "👍", true},
		{"...", "...", false},
	} {
		if got := finds(test.query, test.text); got != test.want {
			t.Errorf("%q in %q: %v", test.query, test.text, got)
		}
	}
}

func TestQuery(t *testing.T) {
	terms, list, ok := Query("Don't tell 東京 猫 tell", 100)
	want := []Term{{Text: "don"}, {Text: "t"}, {Text: "tell"}, {Text: "東京"}, {Text: "猫", Begins: true}}
	if !ok || !slices.Equal(terms, want) || !slices.Equal(list, []string{"Don", "t", "tell", "東京", "猫", "tell"}) {
		t.Errorf("%v %v %v", terms, list, ok)
	}
	if _, _, ok := Query("a b c d", 3); ok {
		t.Error("too many terms are taken")
	}
	if _, _, ok := Query(strings.Repeat("a ", 100), 3); !ok {
		t.Error("a term is counted twice")
	}
}

func TestMatching(t *testing.T) {
	terms, _, _ := Query("strasse groß", 10)
	if got := Matching("In der Straße, STRASSE; nicht Gasse. GROSS", terms, 10); !slices.Equal(got, []string{"Straße", "STRASSE", "GROSS"}) {
		t.Error(got)
	}
	if got := Matching("Strasse strasse", terms, 1); len(got) != 1 {
		t.Error(got)
	}
}

func TestLong(t *testing.T) {
	long := strings.Repeat("x", 1000)
	if got := Terms(long); len(got) != 1 || len(got[0]) != maxRunes {
		t.Errorf("%d terms", len(got))
	}
	for _, marked := range []string{"東", "ด", "e"} {
		marked += strings.Repeat("\u0316", 3000)
		for _, term := range Terms(marked + marked) {
			if len(term) > 4*maxRunes {
				t.Errorf("a term of %d bytes", len(term))
			}
		}
		if !finds(marked, marked+marked) {
			t.Errorf("%.4q with many marks does not find itself", marked)
		}
	}
	if !finds(long, long) {
		t.Error("a long word does not find itself")
	}
	stretch := strings.Repeat("東京都民", maxStretch)
	if got := Terms(stretch); len(got) < 4 {
		t.Errorf("%q", got)
	}
	if !finds("民東京", stretch) {
		t.Error("nothing is found in a long stretch")
	}
	var many strings.Builder
	for i := range 2 * MaxTerms {
		many.WriteString("w" + string(rune('a'+i%26)) + strings.Repeat("b", i/26%50) + strings.Repeat("c", i/1300) + " ")
	}
	if got := len(Terms(many.String())); got > MaxTerms {
		t.Errorf("%d terms", got)
	}
}

// FuzzTerms: whatever a text is, its terms are of the form that the engines take,
// stay the same when they are made again, and a part of the text finds it.
func FuzzTerms(f *testing.F) {
	for _, s := range []string{"Hello World", "東京都に住む", "สวัสดี", "👨‍👩‍👧🇩🇪", "a\u0301\u200d\u00adb", "\xff\x00ß", "ｶﾞ", "한국", "क्ष्म", "_a_東_b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		terms := Terms(text)
		for _, term := range terms {
			if term == "" || !utf8.ValidString(term) || utf8.RuneCountInString(term) > maxRunes {
				t.Fatalf("%q has the term %q", text, term)
			}
			for _, r := range term {
				if r < utf8.RuneSelf && classOf(r) != letter || unicode.IsSpace(r) || unicode.Is(unicode.Co, r) {
					t.Fatalf("%q has the term %q", text, term)
				}
			}
		}
		if len(terms) > 0 && len(terms) < MaxTerms && len(text) < maxRunes && !finds(text, text) {
			t.Fatalf("%q does not find itself: %q", text, terms)
		}
		if got := Terms(text + " " + text); len(terms) < MaxTerms && len(text) < maxRunes && !slices.Equal(got, terms) {
			t.Fatalf("%q twice: %q, not %q", text, got, terms)
		}
	})
}
