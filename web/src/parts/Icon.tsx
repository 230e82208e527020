const PATHS = {
  close: 'M6 6l12 12M18 6L6 18',
  search: 'M10.5 4a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13zM15.5 15.5L20 20',
  chevron: 'M9 5l7 7-7 7',
  down: 'M5 9l7 7 7-7',
  devices: 'M3 5h13v9H3zM6 18h7M9.500 14v4M18 9h3v10h-5v-2',
  inbox: 'M4 13l2.500-8h11L20 13v6H4zM4 13h5l1 2.500h4l1-2.500h5',
  people: 'M9 11a3.500 3.500 0 1 0 0-7 3.500 3.500 0 0 0 0 7zM2.500 20c0-3.600 2.900-6 6.500-6s6.500 2.400 6.500 6M16 4.500a3.500 3.500 0 0 1 0 6.500M18 14.500c2.200.8 3.500 2.900 3.500 5.500',
  account: 'M12 12a4 4 0 1 0 0-8 4 4 0 0 0 0 8zM4 21c0-4 3.600-6.500 8-6.500s8 2.500 8 6.500',
  computer: 'M3 5h18v11H3zM8 20h8M12 16v4',
  camera: 'M3 8h4l1.500-2.500h7L17 8h4v11H3zM12 16.500a3.500 3.500 0 1 0 0-7 3.500 3.500 0 0 0 0 7z',
  recorder: 'M3 7h18v10H3zM7 12h.01M11 12h6M6 17v2M18 17v2',
  alarm_panel: 'M6 3h12v18H6zM9 7h6v4H9zM9.500 15h.01M12 15h.01M14.500 15h.01M9.500 18h.01M12 18h.01M14.500 18h.01',
  device: 'M5 4h14v16H5zM12 17h.01',
  edit: 'M4 20l1-4L16 5l3 3L8 19zM14 7l3 3',
  plus: 'M12 5v14M5 12h14',
  qr: 'M4 4h6v6H4zM14 4h6v6h-6zM4 14h6v6H4zM14 14h2v2h-2zM18 14h2v2h-2zM16 18h4v2h-4zM14 18h.01',
  check: 'M5 12.500l4.500 4.500L19 7.500',
  warning: 'M12 4l9 16H3zM12 10v4M12 17h.01',
  copy: 'M9 9h11v11H9zM5 15H4V4h11v1',
} as const;

export type IconName = keyof typeof PATHS;

/** A drawing beside words that say the same. */
export function Icon({ name }: { name: IconName }) {
  return (
    <svg className="icon" viewBox="0 0 24 24" aria-hidden="true">
      <path d={PATHS[name]} />
    </svg>
  );
}

/** The drawing of a kind of device. */
export function KindIcon({ kind }: { kind: string | null }) {
  return <Icon name={kind && kind in PATHS ? (kind as IconName) : 'device'} />;
}

const ARROWS = {
  none: '',
  in: 'M22 4l-6.500 6.500M15.500 5.500v5h5',
  out: 'M15.500 10.500L22 4M17 4h5v5',
  both: 'M13.500 3h4.500v4.500M18 3l-5 5M22.500 12.500H18V8M18 12.500l5-5',
};

export type ShareState = keyof typeof ARROWS;

/** Two people, and an arrow for each way in which a device is shared. */
export function ShareDrawing({ state }: { state: ShareState }) {
  return (
    <svg className="icon share-drawing" viewBox="0 0 24 24" aria-hidden="true">
      <path d="M9 12a3.500 3.500 0 1 0 0-7 3.500 3.500 0 0 0 0 7zM2.500 20.500c0-3.600 2.900-6 6.500-6s6.500 2.400 6.500 6" />
      {ARROWS[state] && <path className="arrow" d={ARROWS[state]} />}
    </svg>
  );
}
