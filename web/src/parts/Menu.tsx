import { type ReactNode, useEffect, useId, useRef, useState } from 'react';
import { Icon } from './Icon';

interface Item {
  label: string;
  onChoose: () => void;
  danger?: boolean;
}

/** A button that opens a list of actions; arrow keys, Home, End and Escape as in a menu of the desktop. */
export function Menu({ label, items, quiet }: { label: ReactNode; items: readonly Item[]; quiet?: string }) {
  const [open, setOpen] = useState(false);
  const whole = useRef<HTMLDivElement>(null);
  const list = useRef<HTMLDivElement>(null);
  const id = useId();
  useEffect(() => {
    if (!open) return;
    list.current?.querySelector('button')?.focus();
    const outside = (event: Event) => {
      if (!whole.current?.contains(event.target as Node)) setOpen(false);
    };
    document.addEventListener('pointerdown', outside);
    return () => document.removeEventListener('pointerdown', outside);
  }, [open]);

  const close = () => {
    setOpen(false);
    whole.current?.querySelector('button')?.focus();
  };
  const move = (event: React.KeyboardEvent) => {
    const buttons = [...(list.current?.querySelectorAll('button') ?? [])];
    const at = buttons.indexOf(document.activeElement as HTMLButtonElement);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: buttons.length - 1 }[event.key];
    if (event.key === 'Escape') close();
    else if (event.key === 'Tab') setOpen(false);
    else if (to !== undefined) {
      event.preventDefault();
      buttons[(to + buttons.length) % buttons.length]?.focus();
    }
  };

  return (
    <div className="menu" ref={whole}>
      <button
        type="button"
        className={quiet ? 'icon-button' : ''}
        aria-label={quiet}
        aria-haspopup="menu"
        aria-expanded={open}
        aria-controls={open ? id : undefined}
        onClick={() => setOpen(!open)}
      >
        {label} <Icon name="down" />
      </button>
      {open && (
        <div className="menu-list" role="menu" id={id} ref={list} onKeyDown={move}>
          {items.map((item) => (
            <button
              key={item.label}
              type="button"
              role="menuitem"
              className={item.danger ? 'danger' : ''}
              onClick={() => {
                close();
                item.onChoose();
              }}
            >
              {item.label}
            </button>
          ))}
        </div>
      )}
    </div>
  );
}
