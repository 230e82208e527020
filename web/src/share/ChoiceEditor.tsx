import type { SharePermission } from '../generated';
import { permissionName } from '../lib/words';
import type { Device } from '../devices/devices';
import { type Choice, supported } from './plan';

interface Props {
  devices: readonly Pick<Device, 'id' | 'name' | 'alias' | 'services'>[];
  choice: Choice;
  onChange: (choice: Choice) => void;
  /** Tells the controls of several editors on one page apart. */
  name: string;
}

/** Which services, and what may be done with them. */
export function ChoiceEditor({ devices, choice, onChange, name }: Props) {
  const permissions = supported(devices);
  const { services } = choice;
  const cameras = devices.length === 1 && devices[0]?.services.every((service) => service.channel !== null);
  const some = () =>
    onChange({ ...choice, services: new Set(devices.flatMap((device) => device.services.map((item) => item.id))) });
  return (
    <div className="choice-editor">
      <fieldset>
        <legend>{cameras ? 'Cameras' : 'Services'}</legend>
        <label className="tick">
          <input
            type="radio"
            name={`${name}-scope`}
            checked={services === null}
            onChange={() => onChange({ ...choice, services: null })}
          />
          <span>{cameras ? 'All cameras, also those added later' : 'All services, also those added later'}</span>
        </label>
        <label className="tick">
          <input type="radio" name={`${name}-scope`} checked={services !== null} onChange={some} />
          <span>{cameras ? 'Only these cameras' : 'Only these services'}</span>
        </label>
        {services !== null && (
          <div className="nested">
            {devices.map((device) => (
              <div key={device.id} role="group" aria-label={device.alias ?? device.name}>
                {devices.length > 1 && <p className="soft">{device.alias ?? device.name}</p>}
                {device.services.map((service) => (
                  <label className="tick" key={service.id}>
                    <input
                      type="checkbox"
                      checked={services.has(service.id)}
                      onChange={(event) => {
                        const next = new Set(services);
                        if (event.target.checked) next.add(service.id);
                        else next.delete(service.id);
                        onChange({ ...choice, services: next });
                      }}
                    />
                    <span>
                      <bdi>{service.name}</bdi>
                      {service.channel !== null && <span className="soft"> · channel {service.channel}</span>}
                    </span>
                  </label>
                ))}
              </div>
            ))}
          </div>
        )}
      </fieldset>
      {permissions.length > 0 && (
        <fieldset>
          <legend>Permissions</legend>
          <label className="tick">
            <input
              type="checkbox"
              checked={choice.permissions === null}
              onChange={(event) =>
                onChange({ ...choice, permissions: event.target.checked ? null : new Set(permissions) })
              }
            />
            <span>All Permissions</span>
          </label>
          {choice.permissions !== null && (
            <div className="nested columns">
              {permissions.map((permission) => (
                <PermissionTick key={permission} permission={permission} choice={choice} onChange={onChange} />
              ))}
            </div>
          )}
        </fieldset>
      )}
    </div>
  );
}

interface TickProps extends Pick<Props, 'choice' | 'onChange'> {
  permission: SharePermission;
}

function PermissionTick({ permission, choice, onChange }: TickProps) {
  return (
    <label className="tick">
      <input
        type="checkbox"
        checked={choice.permissions?.has(permission) ?? true}
        onChange={(event) => {
          const next = new Set(choice.permissions);
          if (event.target.checked) next.add(permission);
          else next.delete(permission);
          onChange({ ...choice, permissions: next });
        }}
      />
      <span>{permissionName(permission)}</span>
    </label>
  );
}
