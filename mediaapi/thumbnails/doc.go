// Package thumbnails makes small images of large ones that strangers made.
//
// It decides what is taken for an image: JPEG, PNG, GIF and WebP, by their first
// bytes and never by what somebody says they are; SVG and all else is ErrFormat. An
// image's size is read before its pixels, and what would take more pixels or memory
// than allowed is ErrTooLarge without being decoded: Budget shares the memory among
// all that is being made. So is a JPEG of very many scans, each of which takes as long as
// an image; and no decoder outlasts its context. Animations (GIF, APNG, WebP) stay such
// within bounds where that is asked for, as APNG.
//
// The decoders are Go's own and golang.org/x/image's, which have neither EXIF nor
// APNG nor animated WebP: exif.go, apng.go, webp.go and gif.go read what is needed of
// those containers, and leave pixels to them. Everything is pure Go, without state,
// and safe for concurrent use.
package thumbnails
