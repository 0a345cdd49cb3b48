// An encrypted conversation of two people, each with a real client (matrix-js-sdk
// and its Rust crypto), with a running server: node encryption.mjs http://127.0.0.1:8008
//
// Every line printed was seen by the person named, decrypted by their own client.
// The first thing that is not as it should be ends the script with status 1. The
// server must allow open registration.

import * as sdk from "matrix-js-sdk";
import { CryptoEvent } from "matrix-js-sdk/lib/crypto-api/index.js";
import assert from "node:assert/strict";

import { encryptedRoom, enter, logIn, reads, register, sign, until, write } from "./people.mjs";
import { expectAborts, run, say } from "./script.mjs";

async function conversation() {
    const [alice, bob] = await Promise.all([register("Alice"), register("Bob")]);
    await sign(alice);
    await sign(bob);
    const recovery = await alice.crypto.createRecoveryKeyFromPassphrase();
    alice.secrets.key = recovery.privateKey;
    await alice.crypto.bootstrapSecretStorage({ createSecretStorageKey: async () => recovery, setupNewSecretStorage: true, setupNewKeyBackup: true });
    const { backupInfo } = (await alice.crypto.checkKeyBackupAndEnable()) ?? {};
    assert.ok(backupInfo?.version, "a backup version");
    say("Alice", `keeps secrets on the server, and a key backup of version ${backupInfo.version}`);

    // A room, and who is in it.
    const room = await encryptedRoom(alice, [bob]);
    const first = await write(alice, room, "It is a secret.");
    say("Bob", `reads: ${await reads(bob, room, first)}`);
    const second = await write(bob, room, "I tell nobody.");
    say("Alice", `reads: ${await reads(alice, room, second)}`);
    const raw = await alice.client.fetchRoomEvent(room, first);
    assert.ok(raw.type === "m.room.encrypted" && !JSON.stringify(raw).includes("secret"), "the server has no plain text");
    say("server", "has ciphertext only");

    // Identities.
    assert.ok((await alice.crypto.getDeviceVerificationStatus(bob.id, bob.device)).signedByOwner, "Bob's device is signed by Bob");
    say("Alice", "sees that Bob's device is signed by Bob");

    // A new device of Alice's: signed by her, and with the old messages' keys.
    await until("the keys are backed up", alice.client, [CryptoEvent.KeyBackupSessionsRemaining, sdk.ClientEvent.Sync], async () =>
        (await alice.client.http.authedRequest(sdk.Method.Get, "/room_keys/version")).count >= 2); // the library's own is of before
    const phone = await logIn(alice);
    assert.ok(await phone.crypto.userHasCrossSigningKeys(alice.id, true), "the phone knows Alice's keys");
    await phone.crypto.bootstrapCrossSigning({});
    await until("Bob sees the new device as Alice's", bob.client, [CryptoEvent.DevicesUpdated, sdk.ClientEvent.Sync], async () =>
        (await bob.crypto.getDeviceVerificationStatus(alice.id, phone.device))?.signedByOwner);
    say("Bob", "sees a second device of Alice's that is signed by her");
    await phone.crypto.loadSessionBackupPrivateKeyFromSecretStorage();
    await phone.crypto.checkKeyBackupAndEnable();
    const restored = await phone.crypto.restoreKeyBackup();
    assert.ok(restored.imported >= 2, `${restored.imported} keys restored`);
    for (const [id, text] of [[first, "It is a secret."], [second, "I tell nobody."]]) assert.equal(await reads(phone, room, id), text);
    say("Alice", `restored ${restored.imported} keys on her phone and reads what was said before`);
    const third = await write(bob, room, "Hello, phone!");
    for (const device of [alice, phone]) say("Alice", `reads on ${device === phone ? "the phone" : "the laptop"}: ${await reads(device, room, third)}`);

    // Somebody who comes later reads what comes later.
    const carol = await register("Carol");
    await sign(carol);
    await alice.client.invite(room, carol.id);
    await enter(carol, room, bob);
    const fourth = await write(bob, room, "Welcome, Carol.");
    say("Carol", `reads: ${await reads(carol, room, fourth)}`);

    // A device that is gone is written to no more.
    phone.client.stopClient();
    await phone.client.logout(true);
    await until("Bob sees the phone go", bob.client, [CryptoEvent.DevicesUpdated, sdk.ClientEvent.Sync], async () =>
        !(await bob.crypto.getUserDeviceInfo([alice.id])).get(alice.id)?.has(phone.device));
    const fifth = await write(bob, room, "Still there?");
    say("Alice", `reads: ${await reads(alice, room, fifth)}`);
    say("Bob", "sees that Alice's phone is gone");

    for (const p of [alice, bob, carol]) p.client.stopClient();
}

expectAborts();
run(conversation);
