"""The one address that frontends talk to: GraphQL, sign-in, pages."""
