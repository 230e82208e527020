FROM scratch
COPY mailpit /mailpit
EXPOSE 1025/tcp 1110/tcp 8025/tcp
ENTRYPOINT ["/mailpit"]
