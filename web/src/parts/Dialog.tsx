import { type ReactNode, useEffect, useId, useRef, useState } from 'react';
import { Icon } from './Icon';

interface Props {
  title: string;
  onClose: () => void;
  children: ReactNode;
  /** Buttons, the one that does it last. */
  actions?: ReactNode;
  wide?: boolean;
  /** Whether something was entered that closing would lose: then Escape and the cross ask first. */
  entered?: boolean;
}

/** A modal dialog. The browser keeps the focus in it, closes it on Escape, and gives the focus back. */
export function Dialog({ title, onClose, children, actions, wide, entered = false }: Props) {
  const [asking, setAsking] = useState(false);
  const keep = useRef<HTMLButtonElement>(null);
  const leave = () => (entered && !asking ? setAsking(true) : onClose());
  const dialog = useRef<HTMLDialogElement>(null);
  const heading = useId();
  useEffect(() => {
    const shown = dialog.current;
    const before = document.activeElement;
    shown?.showModal();
    return () => {
      shown?.close();
      // What opened it may be drawn anew meanwhile; then the browser has nothing to give the focus back to.
      if (before instanceof HTMLElement && before.isConnected) before.focus();
    };
  }, []);
  useEffect(() => {
    if (!entered) return;
    const ask = (event: BeforeUnloadEvent) => event.preventDefault(); // a reload would lose it too
    addEventListener('beforeunload', ask);
    return () => removeEventListener('beforeunload', ask);
  }, [entered]);
  useEffect(() => {
    if (asking) keep.current?.focus();
  }, [asking]);
  return (
    <dialog
      ref={dialog}
      className={wide ? 'dialog wide' : 'dialog'}
      aria-labelledby={heading}
      onCancel={(event) => {
        if (event.target !== dialog.current) return;
        event.preventDefault();
        if (asking) setAsking(false);
        else leave();
      }}
      onClose={(event) => {
        if (event.target !== dialog.current) return; // a browser may insist on Escape
        if (entered) dialog.current?.showModal();
        leave();
      }}
    >
      <header>
        <h2 id={heading} tabIndex={-1} autoFocus>
          {title}
        </h2>
        <button type="button" className="icon-button" aria-label="Close" onClick={leave}>
          <Icon name="close" />
        </button>
      </header>
      <div className="dialog-body">{children}</div>
      {asking ? (
        <footer>
          <div className="question" role="alertdialog" aria-label="Close and lose it?">
            <p className="footer-words strong">What you entered here would be lost.</p>
            <button type="button" ref={keep} onClick={() => setAsking(false)}>
              Go on editing
            </button>
            <button type="button" className="danger" onClick={onClose}>
              Discard
            </button>
          </div>
        </footer>
      ) : (
        actions && <footer>{actions}</footer>
      )}
    </dialog>
  );
}
