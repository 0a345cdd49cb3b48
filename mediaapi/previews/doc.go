// Package previews looks at pages whose URLs users send, and says what they are
// about: OpenGraph's properties, completed by oEmbed and by the page's own title,
// description and text.
//
// It decides what is requested: http and https, from addresses that its netguard
// allows, with bounds of redirects, bytes and time; nothing that a page says is
// executed, and its URLs pass the same checks. It stores nothing and knows no user:
// the image of a page is handed to whoever asked, as it comes. A Client is safe for
// concurrent use.
package previews
