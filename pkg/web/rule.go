package web

// Rule says which requests are denied: those whose path matches and whose method
// is listed. One of the two must be there.
type Rule struct {
	// Path is a pattern of whole segments, such as "/admin/**" or
	// "/v1/*/secret": "*" stands for any run of characters within one segment, and
	// "/**" at the end for the path before it and all below. "" is any path.
	//
	// A path is denied if it matches in any of the ways that a server might read
	// it. Letters match in either case.
	Path string

	// Methods are in upper case, as requests write them; none means all.
	Methods []string
}

// Redirect sends requests elsewhere.
type Redirect struct {
	// Path is a pattern as in [Rule]. Here the path counts as it is written, but
	// for the percent-encoding of its segments.
	Path string

	// To is where to: an absolute URL or a path. If it ends in "/**", and so does
	// Path, what the request has in that place goes there. The query of the request
	// is kept, behind that of To.
	To string

	// Status is 301, 302, 303, 307 or 308.
	Status int
}
