// Package openapi reads the OpenAPI files of the Matrix specification's
// client-server API and judges what a homeserver answered by them: the status,
// the type of the body, its members and their formats, the errcode of a refusal,
// and events of the server's own making, such as receipts.
//
// It knows what those files make of OpenAPI 3.1: one file for a group of
// endpoints, $refs from one file to another, allOf, formats of Matrix
// identifiers, and extensions whose names begin with x-, which say nothing of an
// answer. Members that a schema does not name are anybody's.
//
// Where the files say less than the text of the specification, or something else,
// an answer is judged by the text: exceptions.go lists those places, each with the
// reason.
//
// It shares no code with the server. A Specification is safe for concurrent use.
package openapi
