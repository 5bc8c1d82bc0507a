"""Single sign-on: signing in with an account of an OpenID Connect or OAuth 2 provider."""
