# Short names for ./latchkey, for those who like make.
.DEFAULT_GOAL := help
.PHONY: help demo up down status doctor test lock bench

help: ## these commands
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 16

demo: ## play the main job: share, accept, connect, revoke, cut
	@./latchkey demo

up: ## start everything here; Ctrl-C stops it
	@./latchkey up

down: ## stop what runs
	@./latchkey down

status: ## what runs, and where
	@./latchkey status

doctor: ## what is missing on this machine
	@./latchkey doctor

test: ## all checks and tests
	@./latchkey test

bench: ## run one benchmark: make bench NAME=revoke_to_cut
	@./latchkey bench $(NAME)

lock: ## make requirements.lock again
	@./latchkey lock
