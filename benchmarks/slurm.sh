#!/bin/sh
# A SLURM of one node on this machine, with accounting, for benchmarks/launchers.py and slow tests. As root:
#     apt-get install slurmctld slurmd slurmdbd slurm-client munge mariadb-server
#     benchmarks/slurm.sh start       # partition main, with this machine's cores
#     benchmarks/slurm.sh stop        # ends all daemons, removes the settings and the jobs' records
# submitit asks `sacct` how a job has ended, so the accounting and its database are needed.
set -eu
home=/var/lib/rpe-slurm
socket=$home/munge.socket

start() {
    host=$(hostname -s)
    mkdir -p "$home/state" "$home/spool" /etc/slurm
    chmod 755 "$home"
    [ ! -e /etc/slurm/slurm.conf ] || { echo "/etc/slurm/slurm.conf must not exist. Run: $0 stop"; exit 1; }
    cat > /etc/slurm/slurm.conf << END
ClusterName=one
SlurmctldHost=$host
AuthType=auth/munge
AuthInfo=socket=$socket
SlurmUser=root
SlurmdUser=root
StateSaveLocation=$home/state
SlurmdSpoolDir=$home/spool
SlurmctldPidFile=$home/slurmctld.pid
SlurmdPidFile=$home/slurmd.pid
SlurmctldLogFile=$home/slurmctld.log
SlurmdLogFile=$home/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=localhost
AccountingStoragePass=$socket
NodeName=$host CPUs=$(nproc) State=UNKNOWN
PartitionName=main Nodes=$host Default=YES MaxTime=INFINITE State=UP
END
    cat > /etc/slurm/slurmdbd.conf << END
AuthType=auth/munge
AuthInfo=socket=$socket
DbdHost=localhost
SlurmUser=root
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct_db
LogFile=$home/slurmdbd.log
PidFile=$home/slurmdbd.pid
END
    chmod 600 /etc/slurm/slurmdbd.conf
    head -c 1024 /dev/urandom > "$home/munge.key"
    chmod 400 "$home/munge.key"
    munged --force --key-file="$home/munge.key" --socket="$socket" --pid-file="$home/munged.pid" \
        --log-file="$home/munged.log" --seed-file="$home/munge.seed"
    mysqladmin ping > /dev/null 2>&1 || setsid mysqld_safe > /dev/null 2>&1 &
    until mysqladmin ping > /dev/null 2>&1; do sleep 1; done
    mysql -e "create database if not exists slurm_acct_db;
              create user if not exists 'slurm'@'localhost' identified by 'slurm';
              grant all on slurm_acct_db.* to 'slurm'@'localhost';"
    slurmdbd
    until sacctmgr -n list cluster > /dev/null 2>&1; do sleep 1; done
    sacctmgr -Qi add cluster one > /dev/null || true
    sacctmgr -Qi add account all > /dev/null || true
    sacctmgr -Qi add user root account=all > /dev/null || true
    slurmctld
    slurmd
    until sinfo -h -o %T | grep -q idle; do sleep 1; done
    srun --ntasks=1 true
    sinfo
}

stop() {
    for daemon in slurmd slurmctld slurmdbd munged; do
        [ ! -e "$home/$daemon.pid" ] || kill "$(cat "$home/$daemon.pid")" || true
    done
    mysql -e "drop database if exists slurm_acct_db; drop user if exists 'slurm'@'localhost';" && mysqladmin shutdown || true
    rm -rf "$home" /etc/slurm/slurm.conf /etc/slurm/slurmdbd.conf
}

case "${1:-}" in
start | stop) "$1" ;;
*) echo "the command must be start or stop: $0 start"; exit 1 ;;
esac
